"""Runs that survive: kills at random instants, full disks, cut-off files, clocks that jump, two processes at once."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.benchmark import journal, running
from demur.benchmark.errors import DemurError
from demur.benchmark.journal import read_journal
from demur.benchmark.records import Request, Response, Sampling
from demur.benchmark.running import check_run, run
from demur.tests.witness import PROVENANCE, SAMPLES, SAMPLING, SeparateWitness, Witness, prompts

SETTING = {"sampling": SAMPLING, "samples": SAMPLES, "provenance": PROVENANCE}


class Stopping:
    """Mixed into a witness: stops with a fault of the model after so many responses; its texts can be long."""

    left: int = 10**9
    letters: int = 64

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        for response in super().respond(batch, sampling):  # type: ignore[misc]
            if self.left == 0:
                raise DemurError("enough")
            self.left -= 1
            name = f"{response.prompt_id} {response.sample}"
            pieces = (hashlib.sha256(f"{name} {piece}".encode()).hexdigest() for piece in itertools.count())
            yield replace(response, text="".join(itertools.islice(pieces, self.letters // 64)))


class StoppingWitness(Stopping, Witness):
    pass


class StoppingSeparate(Stopping, SeparateWitness):
    pass


def make(kind: type, place: Path, *, left: int = 10**9, letters: int = 64) -> Witness:
    model: Witness = kind(place / "asked.txt", 0.0)
    model.left, model.letters = left, letters  # type: ignore[attr-defined]
    return model


def asked(place: Path) -> int:
    path = place / "asked.txt"
    return path.read_text().count("\n") if path.exists() else 0


def table(out: Path) -> bytes:
    return (out / "responses" / "responses.parquet").read_bytes()


KILLED = {"witness": 30, "separate": 30, "replay": 30, "server": 20}


@pytest.mark.slow
def test_no_kill_loses_or_doubles_a_response(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for kind, trials in KILLED.items():
        command = [sys.executable, "-m", "demur.tests.killing", kind, str(trials), "13", str(tmp_path / kind)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["wrong"] == [], found
        assert found["kills"] >= trials, found
        total.update({"trials": found["trials"], "kills": found["kills"], **found["done"]})
    assert total["trials"] >= 100
    for what, least in (("kills", 200), ("second processes refused", 10), ("cut .parquet", 20), ("cut .jsonl", 20)):
        assert total[what] >= least, total


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of that size; skips where none can be mounted."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here; the test with a limit on file size still runs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount; the test with a limit on file size still runs")
@pytest.mark.parametrize("kind", [StoppingWitness, StoppingSeparate])
@pytest.mark.parametrize("kilobytes", [24, 76, 148, 236])
def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path, kind: type, kilobytes: int) -> None:
    everyone = prompts()
    run(make(kind, tmp_path, letters=12_800), everyone, out=tmp_path / "calm", **SETTING)
    before = asked(tmp_path)
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        for _ in range(2):
            with pytest.raises(DemurError, match=r"cannot write|cannot be made") as raised:
                run(make(kind, tmp_path, letters=12_800), everyone, out=disk / "r", **SETTING)
            assert "free space" in str(raised.value)
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        run(make(kind, tmp_path, letters=12_800), everyone, out=disk / "r", **SETTING)
        assert check_run(disk / "r") == []
        assert table(disk / "r") == table(tmp_path / "calm")
    # Asked again is only what could not be saved: the batch at hand, three times.
    assert asked(tmp_path) - before <= len(everyone) * SAMPLES + 3 * 3 * SAMPLES


LIMITED = """
import resource, signal, sys
from pathlib import Path
from demur.benchmark.errors import DemurError
from demur.tests import test_survival as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
place = Path(sys.argv[1])
try:
    t.run(t.make(t.StoppingWitness, place, letters=12_800), t.prompts(), out=place / "r", **t.SETTING)
except DemurError as fault:
    print(fault)
    sys.exit(1)
"""


@pytest.mark.parametrize("name", ["Journal", "_make", "_begin"])
def test_a_kill_before_the_first_event_leaves_a_folder_that_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The folder is there, and nothing or the journal alone is in it."""
    real: Callable[..., object] = getattr(running, name)

    def killed(*arguments: object) -> None:
        if name == "_make":
            real(*arguments)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(running, name, killed)
        with pytest.raises(SystemExit):
            run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "r", **SETTING)
    assert (tmp_path / "r").is_dir()
    run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "r", **SETTING)
    assert check_run(tmp_path / "r") == []


def test_a_file_that_may_not_grow_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    run(make(StoppingWitness, tmp_path / "calm", letters=12_800), prompts(), out=tmp_path / "calm" / "r", **SETTING)
    # Less than the finished table, more than a part.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "100000"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "cannot write" in done.stdout
    before = asked(tmp_path)
    run(make(StoppingWitness, tmp_path, letters=12_800), prompts(), out=tmp_path / "r", **SETTING)
    assert asked(tmp_path) == before == len(prompts()) * SAMPLES
    assert table(tmp_path / "r") == table(tmp_path / "calm" / "r")


@settings(max_examples=12, deadline=None)
@given(stop=st.integers(1, 39), cuts=st.lists(st.tuples(st.integers(0, 15), st.floats(0, 1)), max_size=4))
@pytest.mark.parametrize("kind", [StoppingWitness, StoppingSeparate])
def test_a_file_cut_off_anywhere_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, kind: type, stop: int, cuts: list[tuple[int, float]]
) -> None:
    place = tmp_path_factory.mktemp("cut")
    run(make(kind, place), prompts(), out=place / "calm", **SETTING)
    with pytest.raises(DemurError, match="enough"):
        run(make(kind, place, left=stop), prompts(), out=place / "r", **SETTING)
    files = [place / "r" / "journal.jsonl", *sorted((place / "r" / "responses").iterdir())]
    for number, share in cuts:
        path = files[number % len(files)]
        os.truncate(path, int(path.stat().st_size * share))
    run(make(kind, place), prompts(), out=place / "r", **SETTING)
    assert check_run(place / "r") == []
    assert table(place / "r") == table(place / "calm")


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "calm", **SETTING)
    jumps = itertools.cycle(["2031-01-01T00:00:00.000+00:00", "1999-12-31T23:59:59.999+00:00"])
    monkeypatch.setattr(running, "now", lambda: next(jumps))
    monkeypatch.setattr(journal, "now", lambda: next(jumps))
    with pytest.raises(DemurError, match="enough"):
        run(make(StoppingWitness, tmp_path, left=11), prompts(), out=tmp_path / "r", **SETTING)
    run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "r", **SETTING)
    assert check_run(tmp_path / "r") == []
    assert table(tmp_path / "r") == table(tmp_path / "calm")
    events = read_journal(tmp_path / "r" / "journal.jsonl")
    assert {event["at"][:4] for event in events} == {"2031", "1999"}
    assert all(event["latency_s"] >= 0 for event in events if event["event"] == "batch_answered")


HOLDING = """
import sys, time
from pathlib import Path
from demur.tests import test_survival as t
class Slow(t.Witness):
    def respond(self, batch, sampling):
        time.sleep(30)
        yield from super().respond(batch, sampling)
t.run(t.make(Slow, Path(sys.argv[1])), t.prompts(), out=Path(sys.argv[1]) / "r", **t.SETTING)
"""


def test_a_second_process_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)])
    try:
        book = tmp_path / "r" / "journal.jsonl"
        deadline = time.monotonic() + 60
        while not (book.exists() and book.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        content = book.read_bytes()
        with pytest.raises(DemurError, match="another process is working on this run"):
            run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "r", **SETTING)
        assert book.read_bytes() == content
        assert asked(tmp_path) == 0
    finally:
        first.kill()
        first.wait()
    # The lock goes with the process.
    run(make(StoppingWitness, tmp_path), prompts(), out=tmp_path / "r", **SETTING)
    assert check_run(tmp_path / "r") == []
