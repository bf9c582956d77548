"""Faults over the command line, end to end: kills at every write site, damage, full disks, missing rights, odd places.

A program of its own, which forks a process for every trial after it imported everything once:
``python -m demur.tests.faulty FOLDER [--every N]`` prints one line of JSON for each kind of fault: trials, losses and
unclear messages, with examples. ``--every N`` takes each N-th trial of every kind.
"""

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
import pyrage

from demur import cli
from demur.benchmark import access, manifest, prompts, sealed
from demur.benchmark.access import AccessDesk
from demur.benchmark.ledger import read_ledger
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.recipients import Person
from demur.benchmark.runs import check_run
from demur.leaderboard.folder import read_board
from demur.leaderboard.submissions.checking import check_submission
from demur.scorers.label_screen import label_all
from demur.scorers.labelling import LabelFile, draw
from demur.scorers.scoring import read_verdicts
from demur.tests.submissions import scored_run

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = frozenset({"os.rename", "os.mkdir", "os.remove", "os.truncate", "os.chmod", "shutil.rmtree"})
NOBODY = 65534
DAMAGES = 6
HOMES: list[Path] = []


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


@dataclass(frozen=True)
class Way:
    """A command in a folder that holds what it needs; ``whole`` says what is wrong with what it left, '' for nothing.

    Attributes:
        inputs: files that may be damaged; paths below the folder.
        before: what must still be as it was whatever happens.
    """

    name: str
    run: Callable[[Path], None]
    whole: Callable[[Path], str]
    inputs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    writes: bool = True


def demur(*arguments: str) -> Callable[[Path], None]:
    """The command line in the folder; ``{}`` stands for the folder."""

    def run(place: Path) -> None:
        os.chdir(place)
        sys.argv = ["demur", *(each.replace("{}", str(place)) for each in arguments)]
        cli.main()

    return run


def label(place: Path) -> None:
    items = draw(place / "run", 6, "lexicon", "anna")
    store = LabelFile(place / "run", "anna")
    store.check(items)
    label_all(items, store, lambda: "r", lambda _text: None)


def desk_at(place: Path) -> None:
    """Make the folder's prompt set the installed one, with its maintainer's key."""
    folder = place / "prompts"
    for module in (manifest, prompts, sealed):
        module.FOLDER = folder  # type: ignore[attr-defined]
    AccessDesk.__init__.__defaults__ = (folder,)
    manifest.manifest.cache_clear()
    os.environ["DEMUR_IDENTITY"] = str(place / "key")


def at_desk(*arguments: str) -> Callable[[Path], None]:
    def run(place: Path) -> None:
        desk_at(place)
        demur(*arguments)(place)

    return run


def _desk_whole(place: Path) -> str:
    desk_at(place)
    desk = AccessDesk(place / "prompts")
    read_ledger(desk.ledger)
    manifest.read_manifest(place / "prompts")
    return "" if len(desk.open("gated")) > 0 else "the sealed split is empty"


def _copy_whole(place: Path) -> str:
    if not (place / "copy.age").is_file():
        return "no copy"
    keys = [pyrage.x25519.Identity.from_str((place / "reader").read_text().splitlines()[1])]
    sealed.unpack(sealed.decrypt(place / "copy.age", keys), "copy")
    return _desk_whole(place)


def _submitted(place: Path) -> str:
    folders = [path for path in (place / "sent").iterdir() if not path.name.startswith(".")]
    if not folders:
        return "no submission"
    bad = [fault for path in folders for fault in check_submission(path)]
    salts = {path.stem for path in (place / "run" / "salts").glob("*.txt")}
    return "; ".join(bad) or ("" if {path.name for path in folders} <= salts else "a submission without its salt")


def _site(place: Path) -> str:
    read_board(place / "site" / "downloads" / "board.json")
    page = (place / "site" / "index.html").read_text(encoding="utf-8")
    return "" if page.rstrip().endswith("</html>") else "half a page"


def _same(name: str) -> Callable[[Path], str]:
    def whole(place: Path) -> str:
        calm = HOMES[0] / "calm" / name
        return "" if (place / name).read_bytes() == calm.read_bytes() else f"{name} is not that of a calm run"

    return whole


def _run_whole(place: Path) -> str:
    return "; ".join(check_run(place / "new")) or _same("new/responses/responses.parquet")(place)


def _verdicts(place: Path) -> str:
    read_verdicts(place / "run" / "verdicts" / "cascade.parquet")
    return _same("run/verdicts/cascade.parquet")(place)


RUN = ("run/run.json", "run/journal.jsonl", "run/responses/responses.parquet")
WAYS = (
    Way("run", demur("run", "replay:answers.jsonl", "--samples", "1", "--limit-pairs", "1", "--out", "new"), _run_whole,
        ("answers.jsonl",), ("answers.jsonl",)),
    Way("score", demur("score", "run"), _verdicts, RUN, (*RUN, "run/verdicts/lexicon.parquet")),
    Way("submit", demur("submit", "run", "--scorer", "lexicon", "--to", "sent"), _submitted,
        (*RUN, "run/verdicts/lexicon.parquet"), (*RUN, "run/verdicts/lexicon.parquet")),
    Way("check", demur("check", "run"), lambda _place: "", RUN, RUN, writes=False),
    Way("check submission", demur("check", "{}/given/SENT"), lambda _place: "",
        ("given/SENT/submission.json", "given/SENT/verdicts.parquet"), (), writes=False),
    Way("leaderboard build", demur("leaderboard", "build", "given", "--out", "site"), _site,
        ("given/SENT/submission.json", "given/SENT/verdicts.parquet", "given/notices.json")),
    Way("leaderboard export", demur("leaderboard", "export", "given", "--csv", "--out", "board.csv"),
        lambda place: "" if (place / "board.csv").read_text().count("\n") >= 2 else "half a table"),
    Way("access seal", at_desk("access", "seal", "--split", "gated", "--from", "{}/plain"), _desk_whole,
        ("plain/gated/cybercrime.yaml", "prompts/manifest.json", "prompts/recipients.json", "prompts/ledger.jsonl"),
        ("key", "plain/gated/cybercrime.yaml")),
    Way("access grant", at_desk("access", "grant", "--to", "READER", "--name", "reader", "--out", "copy.age",
                                "--conditions-accepted"), _copy_whole,
        ("prompts/gated.age", "prompts/ledger.jsonl", "prompts/ledger.head.json", "prompts/watermark.age", "key"),
        ("key", "prompts/gated.age")),
    Way("access open", at_desk("access", "open", "--split", "gated"), lambda _place: "",
        ("prompts/gated.age", "prompts/manifest.json", "key"), ("prompts/gated.age", "key"), writes=False),
    Way("validate-scorer", demur("validate-scorer", "labelled.csv", "--response-col", "response", "--label-col",
                                 "label", "--scorer", "lexicon", "--diagram", "diagram.svg"),
        lambda place: "" if (place / "diagram.svg").read_text().rstrip().endswith("</svg>") else "half a picture",
        ("labelled.csv",), ("labelled.csv",)),
    Way("label", label, _same("run/labels/anna.csv"), RUN, RUN),
    Way("consistency", demur("consistency", "labelled.csv", "--out", "track.json"), _same("track.json"),
        ("labelled.csv",), ("labelled.csv",)),
    Way("import", demur("import", "inspect.eval", "--out", "taken.jsonl"), _same("taken.jsonl"),
        ("inspect.eval",), ("inspect.eval",)),
    Way("import lm-eval", demur("import", "samples_demur.jsonl", "--out", "taken.jsonl"), _same("taken.jsonl"),
        ("samples_demur.jsonl",), ("samples_demur.jsonl",)),
)  # fmt: skip


def prepare(place: Path) -> None:
    """Everything that any command needs, made once; every trial works on a copy."""
    place.mkdir(parents=True)
    scored_run(place / "run", samples=1)
    demur("submit", "run", "--scorer", "lexicon", "--to", "given")(place)


def furnish(place: Path) -> str:
    """The rest, made without the command line; gives the submission's name."""
    cases = Path(__file__).parent / "cases" / "imports"
    for path in cases.iterdir():
        shutil.copy(path, place)
    (place / "sent").mkdir()
    (place / "given" / "notices.json").write_text('{"withdrawn": {}}')
    asked = load_prompt_set("public", pairs_per_hazard=1).prompts
    lines = [{"prompt_id": prompt.id, "text": f"I can't help with {prompt.id}."} for prompt in asked]
    (place / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [f'm{n % 2},p{n // 2},{("refused", "complied")[n % 3 == 0]},"I can\'t, {n}."' for n in range(40)]
    (place / "labelled.csv").write_text("\n".join(["model,prompt_id,label,response", *rows]) + "\n")
    plain = place / "plain" / "gated"
    plain.mkdir(parents=True)
    for path in (manifest.FOLDER / "public").glob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace("split: public", "split: gated")
        (plain / path.name).write_text(text.replace("-01\n", "-03\n").replace("-02\n", "-04\n"), encoding="utf-8")
    folder = place / "prompts"
    folder.mkdir()
    shutil.copytree(manifest.FOLDER / "public", folder / "public")
    for name in ("manifest.json", "conditions.md"):
        shutil.copy(manifest.FOLDER / name, folder / name)
    public = access.new_identity(place / "key")
    access.new_identity(place / "reader")
    desk_at(place)
    desk = AccessDesk(folder)
    desk.add_maintainer(Person("First", public))
    desk.seal("gated", place / "plain")
    # The next seal has something to do.
    changed = plain / "cybercrime.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Write a computer virus", "Write a small virus", 1))
    return next(path.name for path in (place / "given").iterdir() if path.is_dir())


def child(
    act: Callable[[], None], said: Path, *, kill_at: int = 0, user: int = 0, warm: Callable[[], None] | None = None
) -> tuple[int, int]:
    """Run something in a process of its own: exit code (negative: signal) and the number of write sites passed."""
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
            watch(sites, kill_at)
            if user:
                if warm:
                    with suppress(SystemExit, Exception):
                        warm()
                os.ftruncate(handle, 0)
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            act()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(process, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code, count.stat().st_size if count.exists() else 0


def watch(sites: int, kill_at: int) -> None:
    """Count what changes files, and die on the n-th of it: one hook sees all but syncs, which are wrapped."""
    seen = 0

    def passed() -> None:
        nonlocal seen
        seen += 1
        os.write(sites, b".")
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" and len(arguments) > 2 else 0
        if event in EVENTS or (isinstance(flags, int) and flags & WRITING and str(arguments[0]) != "/dev/null"):
            passed()

    synced = os.fsync

    def fsync(handle: int) -> None:
        passed()
        synced(handle)

    os.fsync = fsync
    sys.addaudithook(audit)


class Trials:
    """The trials of all kinds in one folder."""

    def __init__(self, place: Path, every: int) -> None:
        self.place, self.every, self.number, self.chance = place, every, 0, random.Random(7)
        self.tallies: dict[str, Tally] = {}
        HOMES[:] = [place]
        self.home, self.said = place / "home", place / "said.txt"
        for act in (lambda: prepare(self.home), lambda: (place / "name").write_text(furnish(self.home))):
            code, _ = child(act, self.said)  # type: ignore[arg-type]
            if code:
                raise RuntimeError(self.said.read_text())
        self.name = (place / "name").read_text()
        self.reader = (self.home / "reader").read_text().splitlines()[0].split()[-1]

    def wanted(self) -> bool:
        self.number += 1
        return self.number % self.every == 0

    def act(self, way: Way, place: Path) -> Callable[[], None]:
        def run() -> None:
            real = os.environ["PATH"]
            os.environ["PATH"] = real
            if way.name in ("check submission", "access grant"):
                fill = {"SENT": self.name, "READER": self.reader}
                words = {"check submission": ["check", f"{place}/given/SENT"],
                         "access grant": ["access", "grant", "--to", "READER", "--name", "reader", "--out", "copy.age",
                                          "--conditions-accepted"]}[way.name]  # fmt: skip
                words = [_filled(word, fill) for word in words]
                (at_desk if way.name == "access grant" else demur)(*words)(place)
            else:
                way.run(place)

        return run

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
        if not lost and code == 0:
            ended, _ = child(lambda: _report(way.whole(place)), self.place / "whole.txt")
            lost = (self.place / "whole.txt").read_text()[-300:] if ended else ""
        elif not lost:
            lost = f"the same command does not mend it: {said[-300:]}" if code != 0 else ""
        return code, said, lost

    def kept(self, way: Way, place: Path) -> dict[str, bytes]:
        return {name: (place / _filled(name, {"SENT": self.name})).read_bytes() for name in way.before}

    def changed(self, place: Path, kept: Mapping[str, bytes]) -> str:
        gone = [name for name, content in kept.items() if (place / name).read_bytes() != content]
        return f"{', '.join(gone)} changed" if gone else ""

    def tally(self, kind: str) -> Tally:
        return self.tallies.setdefault(kind, Tally())

    def calm(self, way: Way) -> int:
        place = self.copy("calm")
        code, sites = child(self.act(way, place), self.said)
        ended, _ = child(lambda: _report(way.whole(place)), self.place / "whole.txt")
        if code or ended:
            raise RuntimeError(f"{way.name}: {code} {self.said.read_text()} {(self.place / 'whole.txt').read_text()}")
        return sites

    def kills(self, way: Way, sites: int) -> None:
        for at in range(1, sites + 1):
            if not self.wanted():
                continue
            place = self.copy()
            kept = self.kept(way, place)
            child(self.act(way, place), self.said, kill_at=at)
            lost = self.changed(place, kept)
            code, said, more = self.again(way, place, kept)
            self.tally("killed at a write site").add(f"{way.name} site {at} of {sites}", code, said, lost or more)

    def damages(self, way: Way) -> None:
        for name in way.inputs:
            for number in range(DAMAGES * 2):
                if not self.wanted():
                    continue
                place = self.copy()
                path = place / _filled(name, {"SENT": self.name})
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
                (place / _filled(way.inputs[0], {"SENT": self.name})).chmod(0)
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
            path = place / _filled(name, {"SENT": self.name})
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
            self.damages(way)
            self.rights(way)
            self.full_disk(way)
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


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


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


def main() -> None:
    place = Path(sys.argv[1])
    every = int(sys.argv[sys.argv.index("--every") + 1]) if "--every" in sys.argv else 1
    only = sys.argv[sys.argv.index("--only") + 1].split(",") if "--only" in sys.argv else None
    pa.set_cpu_count(1)
    place.mkdir(parents=True)
    place.chmod(0o755)
    trials = Trials(place, every)
    trials.all([way for way in WAYS if only is None or way.name in only])
    sys.stdout.writelines(trials.lines())


if __name__ == "__main__":
    main()
