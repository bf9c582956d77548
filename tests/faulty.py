"""Faults over the command line, end to end: kills at every write site, damage, full disks, missing rights, odd places.

A program of its own, which forks a process for every trial after it imported everything once:
``python -m demur.tests.faulty FOLDER [--every N] [--kills N] [--only NAME,...]`` prints one line of JSON for each kind
of fault: trials, losses and unclear messages, with examples. ``--every N`` takes each N-th trial of every kind but
kills, ``--kills N`` so many kills of each command, spread over its write sites (12 without it). The commands are those
of :mod:`.fault_ways`. The kills need a C compiler: see ``write_sites.c``.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from demur.tests.fault_server import Act, complete, serving_apart
from demur.tests.fault_ways import HOMES, WAYS, Way, furnish, named, prepare
from demur.tests.test_judge import TICKET, asked, honest

NOBODY = 65534
DAMAGES = 6
DEAR_KILLS = 6


@dataclass
class Tally:
    """What became of the trials of one kind of fault."""

    trials: int = 0
    losses: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def add(self, name: str, code: int, said: str, lost: str) -> None:
        self.trials += 1
        if lost:
            self.losses.append(f"{name}: {lost}")
        clear = code == 0 or (code == 1 and "Mend:" in said) or code == 2
        if "Traceback" in said or not clear:
            self.unclear.append(f"{name}: code {code}: {said[-600:]}")


def child(
    act: Callable[[], None],
    said: Path,
    *,
    place: Path | None = None,
    kill_at: int = 0,
    user: int = 0,
    warm: Callable[[], None] | None = None,
) -> tuple[int, int]:
    """Run something in a process of its own: exit code (negative: signal) and the write sites passed in ``place``."""
    count = said.with_suffix(".sites")
    process = os.fork()
    if not process:
        code = 70
        try:
            handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            sites = os.open(count, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            if user:
                if warm:
                    with suppress(SystemExit, Exception):
                        warm()
                os.ftruncate(handle, 0)
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            library = ctypes.CDLL(None)
            if place is not None:
                library.arm(str(place).encode(), ctypes.c_long(kill_at))
            act()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            if place is not None:
                os.write(sites, str(library.sites()).encode())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(process, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code, int((count.read_text() if count.exists() else "") or 0)


def answers(body: dict, _before: int) -> Act:  # type: ignore[type-arg]
    """A server that judges where it is asked to, and else says something."""
    return honest(body) if TICKET.search(asked(body)) else complete(body)


class Trials:
    """The trials of all kinds in one folder."""

    def __init__(self, place: Path, every: int, kills: int, url: str) -> None:
        self.place, self.every, self.most_kills, self.url = place, every, kills, url
        self.number, self.chance = 0, random.Random(7)
        self.tallies: dict[str, Tally] = {}
        HOMES[:] = [place]
        self.home, self.said = place / "home", place / "said.txt"
        for act in (lambda: prepare(self.home), lambda: furnish(self.home, url)):
            code, _ = child(act, self.said)
            if code:
                raise RuntimeError(self.said.read_text())

    def wanted(self) -> bool:
        self.number += 1
        return self.number % self.every == 0

    def act(self, way: Way, place: Path) -> Callable[[], None]:
        return lambda: way.run(place)

    def copy(self, name: str = "trial") -> Path:
        place = self.place / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.home, place)
        return place

    def again(self, way: Way, place: Path, kept: Mapping[str, bytes]) -> tuple[int, str, str]:
        """The same command once more, and what is lost after it."""
        code, _ = child(self.act(way, place), self.said)
        said = self.said.read_text(errors="replace")
        lost = self.changed(place, kept)
        if not lost:
            # It may say that all is there already; then all must be there.
            ended, _ = child(lambda: _report(way.whole(place)), self.place / "whole.txt")
            lost = (self.place / "whole.txt").read_text()[-300:] if ended else ""
            lost += f"; the same command does not mend it: {said[-300:]}" if lost and code else ""
        return code, said, lost

    def kept(self, way: Way, place: Path) -> dict[str, bytes]:
        names = [named(place, name) for name in way.before]
        return {name: (place / name).read_bytes() for name in names}

    def changed(self, place: Path, kept: Mapping[str, bytes]) -> str:
        gone = [name for name, content in kept.items() if (place / name).read_bytes() != content]
        return f"{', '.join(gone)} changed" if gone else ""

    def tally(self, kind: str) -> Tally:
        return self.tallies.setdefault(kind, Tally())

    def calm(self, way: Way) -> int:
        place = self.copy("calm")
        code, sites = child(self.act(way, place), self.said, place=place)
        ended, _ = child(lambda: _report(way.whole(place)), self.place / "whole.txt")
        if code or ended:
            raise RuntimeError(f"{way.name}: {code} {self.said.read_text()} {(self.place / 'whole.txt').read_text()}")
        return sites

    def kills(self, way: Way, sites: int) -> None:
        most = min(self.most_kills, DEAR_KILLS) if way.dear else self.most_kills
        numbers = range(1, sites + 1)
        for at in sorted(self.chance.sample(numbers, most)) if sites > most else numbers:
            place = self.copy()
            kept = self.kept(way, place)
            killed, _ = child(self.act(way, place), self.said, place=place, kill_at=at)
            if killed != -signal.SIGKILL:
                # Where threads write, one run passes fewer sites than another.
                continue
            lost = self.changed(place, kept)
            code, said, more = self.again(way, place, kept)
            self.tally("killed at a write site").add(f"{way.name} site {at} of {sites}", code, said, lost or more)
            self.tally(f"killed: {way.name}").add("", 0, "", lost or more)

    def damages(self, way: Way) -> None:
        for name in way.inputs:
            for number in range(DAMAGES * 2):
                if not self.wanted():
                    continue
                place = self.copy()
                path = place / named(place, name)
                content = bytearray(path.read_bytes())
                at = self.chance.randrange(len(content))
                if number < DAMAGES:
                    kind, content = "truncated file", content[:at]
                else:
                    kind = "flipped bit"
                    content[at] ^= 1 << self.chance.randrange(8)
                path.write_bytes(content)
                code, _ = child(self.act(way, place), self.said)
                said = self.said.read_text(errors="replace")
                lost = "" if path.read_bytes() == bytes(content) or "prompts" in name else f"{name} was changed"
                self.tally(kind).add(f"{way.name}: {name} at {at}", code, said, lost)

    def rights(self, way: Way) -> None:
        for kind in ("read-only folder", "unreadable input"):
            if not self.wanted() or (kind == "read-only folder" and not way.writes):
                continue
            if kind == "unreadable input" and not way.inputs:
                continue
            place = self.copy()
            kept = self.kept(way, place)
            for path in [place, *place.rglob("*")]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            if kind == "unreadable input":
                (place / named(place, way.inputs[0])).chmod(0)
            # Once before with all rights: what is loaded late may lie where the other user cannot read.
            warm = self.copy("warm")
            code, _ = child(self.act(way, place), self.said, user=NOBODY, warm=self.act(way, warm))
            said = self.said.read_text(errors="replace")
            for path in [place, *place.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
            lost = self.changed(place, kept) or ("it says that it is done" if code == 0 else "")
            self.tally(kind).add(way.name, code, said, lost)

    def full_disk(self, way: Way) -> None:
        if not self.wanted() or not way.writes:
            return
        place = self.copy()
        size = sum(path.stat().st_blocks * 512 for path in place.rglob("*") if path.is_file()) + 2**20
        disk = self.place / "disk"
        disk.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size + 2**23}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            shutil.copytree(place, disk / "trial")
            here = disk / "trial"
            kept = self.kept(way, here)
            with (disk / "filling").open("wb", buffering=0) as filling:
                _fill(filling.fileno())
            code, _ = child(self.act(way, here), self.said)
            said = self.said.read_text(errors="replace")
            lost = self.changed(here, kept) or ("it says that it is done" if code == 0 else "")
            (disk / "filling").unlink()
            _, _, more = self.again(way, here, kept)
            self.tally("full disk").add(way.name, code, said, lost or more)
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def places(self, way: Way) -> None:
        for kind, name in (("Unicode path", "ünï-目录-ملف"), ("path with spaces", "a folder 'of' (mine) & more")):
            if self.wanted():
                place = self.copy(name)
                code, said, lost = self.again(way, place, self.kept(way, place))
                self.tally(kind).add(way.name, code, said, lost or ("" if code == 0 else said[-200:]))
        for kind, change in (("locale C", {"LC_ALL": "C", "LANG": "C"}), ("other time zone", {"TZ": "Pacific/Apia"})):
            if not self.wanted():
                continue
            place = self.copy()

            def elsewhere(change: Mapping[str, str] = change, place: Path = place) -> None:
                os.environ.update(change)
                time.tzset()
                self.act(way, place)()

            code, _ = child(elsewhere, self.said)
            said = self.said.read_text(errors="replace")
            self.tally(kind).add(way.name, code, said, "" if code == 0 else said[-200:])

    def line_ends(self, way: Way) -> None:
        for name in way.inputs:
            if Path(name).suffix not in (".csv", ".jsonl", ".json", ".yaml") or not self.wanted():
                continue
            place = self.copy()
            path = place / named(place, name)
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
            code, _ = child(self.act(way, place), self.said)
            self.tally("Windows line ends").add(f"{way.name}: {name}", code, self.said.read_text(errors="replace"), "")

    def two_at_once(self, way: Way) -> None:
        if not self.wanted() or not way.writes:
            return
        place = self.copy()
        kept = self.kept(way, place)
        process = os.fork()
        if not process:
            code, _ = child(self.act(way, place), self.place / "other.txt")
            os._exit(0 if code == 0 else 1)
        code, _ = child(self.act(way, place), self.said)
        os.waitpid(process, 0)
        said = self.said.read_text(errors="replace")
        tally = self.tally("two processes at once")
        tally.add(way.name, code, said, "")
        _, more, lost = self.again(way, place, kept)
        tally.trials -= 1
        tally.add(way.name, 0, "", lost if way.name != "submit" else self.changed(place, kept))
        del more

    def all(self, ways: Sequence[Way]) -> None:
        for way in ways:
            began = time.monotonic()
            sites = self.calm(way)
            if way.writes:
                self.kills(way, sites)
            self.full_disk(way)
            if not way.dear:
                self.damages(way)
                self.rights(way)
                self.places(way)
                self.line_ends(way)
                self.two_at_once(way)
            sys.stderr.write(f"{way.name}: {sites} write sites, {time.monotonic() - began:.0f} s\n")
            (self.place / "so_far.jsonl").write_text("".join(self.lines()))

    def lines(self) -> Iterator[str]:
        """What was found so far, a line of JSON for each kind."""
        for kind, tally in self.tallies.items():
            row = {"kind": kind, "trials": tally.trials, "losses": tally.losses, "unclear": tally.unclear}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _report(wrong: str) -> None:
    if wrong:
        sys.stdout.write(wrong)
        raise SystemExit(1)


def _fill(handle: int) -> None:
    for piece in (2**20, 4096, 1):
        try:
            while True:
                os.write(handle, b"\0" * piece)
        except OSError:
            continue


def preloaded(place: Path) -> None:
    """Build what counts write sites and begin again with it."""
    library = place / "write_sites.so"
    source = Path(__file__).with_name("write_sites.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    os.execv(sys.executable, [*sys.orig_argv[:1], *sys.orig_argv[1:]])


def _option(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def main() -> None:
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)
    if "LD_PRELOAD" not in os.environ:
        preloaded(place)
    pa.set_cpu_count(1)
    only = [name for name in _option("--only", "").split(",") if name]
    with serving_apart(answers, place / "address") as url:
        trials = Trials(place, int(_option("--every", "1")), int(_option("--kills", "12")), url)
        trials.all([way for way in WAYS if not only or way.name in only])
    sys.stdout.writelines(trials.lines())


if __name__ == "__main__":
    main()
