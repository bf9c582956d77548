"""Kills runs at random instants, again and again, and looks each time at what was lost or asked twice.

A program of its own: it imports everything once and then forks a process for each attempt, so that a kill falls into
the run and not into the start of the interpreter. ``python -m demur.tests.killing KIND TRIALS SEED FOLDER`` prints
a line of JSON: trials, kills, where the kills fell, what else was done to the runs, and what was wrong. The kinds:

- ``witness``, ``separate``: :func:`demur.benchmark.running.run` with a model that answers in batches, or singly;
- ``replay``, ``server``: the command ``demur run`` with responses of a file, or of a server on loopback that fails now
  and then.

In half of the trials files are cut off at random between the attempts, as a broken disk would leave them. In a quarter
of the attempts the clock jumps by years, and in a quarter a second process is started on the same folder. In the end
``demur check`` has its say.
"""

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from demur import cli
from demur.benchmark import journal, running
from demur.benchmark.journal import read_journal
from demur.benchmark.models import openai, replay, server
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.records import Prompt
from demur.benchmark.running import check_run, run
from demur.tests.fault_server import Act, complete, refuse, serving_apart
from demur.tests.witness import PROVENANCE, SAMPLES, SAMPLING, SeparateWitness, Witness, prompts, text_of

MOST_KILLS = 10
ENDED, ERRORS, REFUSED, BROKEN = 0, 3, 4, 70
Key = tuple[str, int]


@dataclass
class Case:
    """A kind of run: how a process works on it, and what it is to answer."""

    kind: str
    place: Path
    url: str = ""
    prompts: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find the prompts, and write the file of a replay."""
        own = self.kind in ("witness", "separate")
        self.prompts = prompts() if own else list(load_prompt_set("public", pairs_per_hazard=1).prompts)
        if self.kind == "replay":
            rows = [
                {"prompt_id": prompt.id, "sample": sample, "text": text_of(prompt, sample)}
                for prompt in self.prompts
                for sample in range(SAMPLES)
            ]
            (self.place / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def attempt(self, folder: Path) -> int:
        """Work on the run: whether all is there, or errors are left, or another process is at work."""
        if self.kind in ("witness", "separate"):
            model = (SeparateWitness if self.kind == "separate" else Witness)(folder / "asked.txt", 0.1)
            setting: dict[str, Any] = {"sampling": SAMPLING, "samples": SAMPLES, "provenance": PROVENANCE}
            left = run(model, self.prompts, out=folder / "run", **setting).errors
            return ERRORS if left else ENDED
        words = [f"replay:{self.place / 'answers.jsonl'}"]
        if self.kind == "server":
            # The model's name tells the server which trial this is.
            words = [f"openai:{folder.name}", "--base-url", self.url, "--temperature", "0", "--concurrency", "3"]
            server.BACKOFF_S = 0.001
        # Small batches: a kill shall find some answered and some not.
        replay.BATCH_RESPONSES = openai.BATCH_RESPONSES = 24
        return demur("run", *words, "--samples", str(SAMPLES), "--limit-pairs", "1", "--out", str(folder / "run"))


def demur(*words: str) -> int:
    """The command line in this process; it ends with what is left to do."""
    said = Path(words[-1]).parent / f"said-{os.getpid()}.txt"
    with said.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.argv = ["demur", *words]
    try:
        cli.main()
        code: object = 0
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    text = said.read_text()
    said.unlink()
    if code in (0, None):
        return ERRORS if "to retry the errors" in text else ENDED
    if "another process is working" in text and "Traceback" not in text:
        return REFUSED
    sys.stderr.write(text)
    return BROKEN


def fork(act: Callable[[], int], errors: Path, *, jumps: int = 0) -> int:
    """Do it in a process of its own; ``jumps`` years are added to what the clock says, at every other look."""
    child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        if jumps:
            looks = iter(range(10**9))
            for module in (journal, running):
                module.now = lambda: f"{2026 + jumps * (next(looks) % 2)}-11-25T00:00:00.000+00:00"  # type: ignore[attr-defined]
        code = act()
    except running.DemurError as fault:
        code = REFUSED if "another process is working" in str(fault) else BROKEN
        os.write(2, str(fault).encode())
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait; the code of a process, or the negative number of the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def saved(folder: Path) -> set[Key]:
    """What lies in the run folder: of parts, tables and single responses, whatever the run would make of them."""
    found: set[Key] = set()
    for path in (folder / "run" / "responses").glob("[!.]*.parquet"):
        with suppress(pa.ArrowException, OSError):
            for row in pq.read_table(path, columns=["prompt_id", "sample", "finish_reason"]).to_pylist():
                if row["finish_reason"] != "error":
                    found.add((row["prompt_id"], row["sample"]))
    for path in (folder / "run" / "responses").glob("flight-*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            row = json.loads(line)
            found.add((row["prompt_id"], row["sample"]))
    return found


def asked(folder: Path) -> list[Key]:
    path = folder / "asked.txt"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(prompt_id, sample) for prompt_id, sample in map(json.loads, lines)]


@dataclass
class Tally:
    """What became of the trials of one kind of run."""

    trials: int = 0
    fell: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Trial:
    """One run, killed until it happens to end."""

    def __init__(self, case: Case, folder: Path, longest: float, chance: random.Random, tally: Tally) -> None:
        self.case, self.folder, self.longest, self.chance, self.tally = case, folder, longest, chance, tally
        self.spoiled = chance.random() < 0.5
        self.errors = folder / "errors.txt"

    def go(self, expected: bytes) -> None:
        """Try and kill until the run ends; then look at what it left."""
        kills, code, cut = 0, ERRORS, 0
        while code in (ERRORS, REFUSED) or code < 0:
            before, booked = saved(self.folder), len(asked(self.folder))
            code = self.attempt(kill=kills < MOST_KILLS)
            if code == -signal.SIGKILL:
                kills += 1
                path = self.folder / "run" / "journal.jsonl"
                events = read_journal(path) if path.exists() else []
                self.tally.fell["before the first event" if not events else f"after {events[-1]['event']}"] += 1
            again = before & set(asked(self.folder)[booked:])
            self.blame([f"{key} asked again though it was saved" for key in sorted(again)])
            if lost := before - saved(self.folder):
                self.blame([f"{len(lost)} saved responses lost"])
            if code != ENDED and self.spoiled:
                cut += self.cut()
        if code != ENDED:
            self.blame([f"ended with code {code}: {self.errors.read_text()[-500:]}"])
        else:
            self.blame(self.verdict(expected, told_once=not cut))
        self.tally.trials += 1

    def attempt(self, *, kill: bool) -> int:
        """One process, killed or not, and now and then a second one on the same folder; how the run stands then."""
        jumps = self.chance.choice((-30, 12, 0, 0, 0, 0, 0, 0)) if kill else 0
        first = fork(lambda: self.case.attempt(self.folder), self.errors, jumps=jumps)
        self.tally.done["clock jumps"] += jumps != 0
        second = None
        if kill and self.chance.random() < 0.25:
            time.sleep(self.chance.uniform(0, self.longest / 4))
            second = fork(lambda: self.case.attempt(self.folder), self.errors)
        if kill:
            # A third of the kills fall early: into the first steps, or into the taking up of what is there.
            early = self.chance.random() < 1 / 3
            time.sleep(self.chance.uniform(0, self.longest / 10 if early else self.longest))
            os.kill(first, signal.SIGKILL)
        codes = [ended(child) for child in (first, second) if child is not None]
        if second is not None:
            self.tally.done["second processes refused"] += REFUSED in codes
            self.tally.done["second processes that came too late"] += REFUSED not in codes
        if BROKEN in codes:
            return BROKEN
        return ENDED if ENDED in codes else min(codes)

    def cut(self) -> int:
        """Cut a file of the run at random; how many were cut."""
        run_folder = self.folder / "run"
        files = [path for path in (run_folder / "responses").glob("[!.]*") if path.is_file()]
        files += [path for path in [run_folder / "journal.jsonl"] if path.exists()]
        if not files or self.chance.random() < 0.3:
            return 0
        path = self.chance.choice(sorted(files))
        os.truncate(path, int(path.stat().st_size * self.chance.random()))
        self.tally.done[f"cut {path.suffix}"] += 1
        return 1

    def verdict(self, expected: bytes, *, told_once: bool) -> list[str]:
        """What is wrong with a finished run."""
        run_folder = self.folder / "run"
        wrong = check_run(run_folder)
        code = ended(fork(lambda: demur("check", str(run_folder)), self.errors))
        wrong += [f"demur check: code {code}"] if code else []
        table = run_folder / "responses" / "responses.parquet"
        if table.read_bytes() != expected:
            wrong.append("another table than that of a calm run")
        if sorted(path.name for path in table.parent.iterdir()) != [table.name]:
            wrong.append("leftovers beside the table")
        events = read_journal(run_folder / "journal.jsonl")
        told = Counter(tuple(key) for event in events for key in event.get("keys", []))
        failed = Counter(
            (event["prompt_id"], event["sample"]) for event in events if event["event"] == "response_error"
        )
        if told_once:
            wrong += [f"{key} told {count} times" for key, count in told.items() if count > 1 + failed[key]]
        if len(told) != len(self.case.prompts) * SAMPLES:
            wrong.append(f"{len(told)} responses told")
        return wrong

    def blame(self, faults: list[str]) -> None:
        self.tally.wrong += [f"trial {self.folder.name}: {fault}" for fault in faults]


def calm(case: Case) -> tuple[bytes, float]:
    """The table of a run that nobody disturbs, and the seconds that it takes."""
    seconds = 0.0
    for name in ("first", "calm"):
        folder = case.place / name
        folder.mkdir()
        code = ERRORS
        while code == ERRORS:
            begun = time.monotonic()
            code = ended(fork(lambda folder=folder: case.attempt(folder), folder / "errors.txt"))  # type: ignore[misc]
            seconds = time.monotonic() - begun
        if code != ENDED:
            raise RuntimeError((folder / "errors.txt").read_text())
    return (folder / "run" / "responses" / "responses.parquet").read_bytes(), seconds


@contextmanager
def answering(place: Path) -> Iterator[str]:
    """A server in a process of its own, which writes down what it is asked; gives its address."""
    by_text = {prompt.text: prompt.id for prompt in load_prompt_set("public", pairs_per_hazard=1).prompts}
    samples = {openai._seed(0, name, sample): sample for name in by_text.values() for sample in range(SAMPLES)}
    lock, chance = threading.Lock(), random.Random(3)

    def script(body: dict[str, Any], _before: int) -> Act:
        with lock:
            with (place / body["model"] / "asked.txt").open("a") as book:
                book.write(json.dumps([by_text[body["messages"][0]["content"]], samples[body["seed"]]]) + "\n")
            luck = chance.random()
        if luck < 0.02:
            return refuse(422)
        return refuse(503) if luck < 0.05 else Act("", fault="drop") if luck < 0.07 else complete(body)

    with serving_apart(script, place / "address") as url:
        yield url


def trials(kind: str, count: int, seed: int, place: Path) -> Tally:
    """So many trials of one kind of run."""
    place.mkdir(parents=True)
    tally, chance = Tally(), random.Random(f"{kind} {seed}")
    with answering(place) if kind == "server" else nullcontext("") as url:
        case = Case(kind, place, url)
        expected, longest = calm(case)
        for number in range(count):
            folder = place / str(number)
            folder.mkdir()
            Trial(case, folder, longest, chance, tally).go(expected)
    return tally


def main(kind: str, count: int, seed: int, place: Path) -> None:
    # Threads that reading and writing may have begun do not live on in a forked process.
    pa.set_cpu_count(1)
    found = trials(kind, count, seed, place)
    row = {"kind": kind, "trials": found.trials, "kills": found.fell.total(), "fell": found.fell}
    sys.stdout.write(json.dumps({**row, "done": found.done, "wrong": found.wrong}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
