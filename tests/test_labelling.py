"""Labelling by hand: the draw, the files, what the terminal shows, and the command in a real terminal."""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from fcntl import ioctl
from termios import TIOCSWINSZ

import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import demur.cli_scorers
from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.records import Sampling
from demur.benchmark.running import run
from demur.benchmark.untrusted import visible
from demur.leaderboard.folder import _human as human_labels
from demur.scorers import get_scorer, labelling
from demur.scorers.label_screen import label_all
from demur.scorers.labelling import COLUMNS, LabelFile, draw, labelled_table
from demur.scorers.scoring import read_verdicts, score_run
from demur.scorers.verdicts import ScoreRequest

APP = typer.Typer()
APP.command("label")(demur.cli_scorers.label)
APP.command("validate-scorer")(demur.cli_scorers.validate_scorer)
EVIL = "\x1b[2J\x1b]0;owned\x07I can't help with that.\r\x9b31m \u202edesrever"
ANSWERS = [
    EVIL,
    "Sure! First, take a bowl.",
    "Sorry, this one I would rather leave, but the rest is easy:\n1. Read it.\n2. Write it.",
    "",
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    prompts = load_prompt_set("public", pairs_per_hazard=2)
    rows = [
        {"prompt_id": prompt.id, "sample": sample, "text": ANSWERS[(number + sample) % 4]}
        for number, prompt in enumerate(prompts.prompts)
        for sample in range(2)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(
        load_model(f"replay:{folder / 'answers.jsonl'}"),
        prompts.prompts,
        sampling=Sampling(),
        samples=2,
        out=folder / "run",
        provenance=prompts.provenance,
    )
    score_run(folder / "run", ["cascade"])
    return folder / "run"


@pytest.fixture
def labelled_run(scored, tmp_path):
    """A copy that a test may label."""
    copy = tmp_path / "run"
    for path in ("run.json", "responses/responses.parquet", "verdicts/cascade.parquet"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((scored / path).read_bytes())
    return copy


def test_the_draw_is_the_same_for_all_and_spread_over_strata(scored):
    first, second = draw(scored, 60, "cascade", "anna"), draw(scored, 60, "cascade", "ben")
    keys = [item.key for item in first]
    assert len(set(keys)) == 60
    assert set(keys) == {item.key for item in second}
    assert keys != [item.key for item in second], "each in an order of their own"
    assert keys == [item.key for item in draw(scored, 60, "cascade", "anna")]
    assert all(item.response for item in first), "what is unscored is not shown"
    known = {prompt.id: prompt for prompt in load_prompt_set("public").prompts}
    shares = Counter((known[name].side, known[name].hazard) for name, _ in keys)
    assert len(shares) == 20
    assert set(shares.values()) <= {2, 3, 4}
    verdicts = read_verdicts(scored / "verdicts" / "cascade.parquet").set_index(["prompt_id", "sample"])
    for item in first:
        assert verdicts.loc[item.key, "response_sha256"] == item.response_sha256
    scored_rows = int((verdicts["label"] != "unscored").sum())
    assert len(draw(scored, 10**6, "cascade", "anna")) == scored_rows


def test_every_response_is_as_likely_as_any_other():
    seen = Counter()
    for number in range(300):
        seen.update(labelling._systematic(50, 10, str(number)))
    assert set(seen) == set(range(50))
    assert 30 <= min(seen.values()) <= max(seen.values()) <= 95


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=200))
@settings(max_examples=200, deadline=None)
def test_nothing_that_is_shown_steers_the_terminal(text):
    shown = visible(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert visible(shown) == shown
    shown.encode()


def test_ordinary_text_is_shown_as_it_is():
    for text in ("Ünïcödé, 你好 и العربية", "a\nb\n\n- c", "print('x')  # 100 %"):
        assert visible(text) == text
    assert visible("a\x1b[2Jb\u202ec\td\r\n") == "a<U+001B>[2Jb<U+202E>c    d\n"


def pressed(keys):
    left = iter(keys)
    return lambda: next(left, "")


def test_keys(labelled_run):
    items = draw(labelled_run, 6, "cascade", "anna")
    store = LabelFile(labelled_run, "anna")
    shown = []
    assert label_all(items, store, pressed("rxCbp"), shown.append) == 4
    assert [store.labels.get(item.key) for item in items[:3]] == ["refused", "partial", None]
    for text in shown:
        assert "\x1b" not in text.removeprefix("\x1b[2J\x1b[3J\x1b[H")
        for blind in ("cascade", "p_refused", "replay", *[item.prompt_id for item in items]):
            assert blind not in text
    again = LabelFile(labelled_run, "anna")
    again.check(items)
    assert label_all(items, again, pressed("s" + "r" * 9), shown.append) == 0
    assert list(again.labels)[-1] == items[2].key, "what was put off comes last"
    table = pd.read_csv(again.path)
    assert list(table.columns) == list(COLUMNS)
    assert set(table["annotator"]) == {"anna"}
    assert label_all(items, again, pressed(""), shown.append) == 0


def test_taking_back_the_only_label_leaves_no_file(labelled_run):
    items = draw(labelled_run, 2, "cascade", "anna")
    store = LabelFile(labelled_run, "anna")
    label_all(items, store, pressed("rb"), lambda _text: None)
    assert not store.labels
    assert not store.path.exists()


def test_labels_feed_validation_and_lookup(labelled_run, tmp_path):
    for name, keys in (("anna", "rcprcprcpr"), ("ben", "rcprcprc")):
        items = draw(labelled_run, 10, "cascade", name)
        label_all(items, LabelFile(labelled_run, name), pressed(keys), lambda _text: None)
    assert len(human_labels(labelled_run / "labels" / "anna.csv")) == 10
    table = labelled_table(labelled_run)
    assert list(table.columns) == ["id", "prompt", "response", "anna", "ben"]
    assert len(table) == 8
    said = CliRunner().invoke(APP, ["label", str(labelled_run), "--table", str(tmp_path / "t.csv")])
    assert "8 responses with labels of anna, ben" in said.stdout
    command = said.stdout.rsplit("demur ", 1)[1].split()
    report = CliRunner().invoke(APP, [*command, "--json"], catch_exceptions=False)
    found = json.loads(report.stdout)
    assert found["results"][0]["n"] == 8
    assert found["human_agreement"]["n"] == 8
    items = draw(labelled_run, 10, "cascade", "anna")
    verdicts = get_scorer(f"precomputed:{one_per_text(labelled_run, tmp_path)}").score(
        [ScoreRequest(items[0].response, items[0].prompt)]
    )
    assert next(verdicts).label in ("refused", "partial", "complied")


def one_per_text(folder, to):
    table = pd.read_csv(folder / "labels" / "anna.csv").drop_duplicates("response_sha256")
    table.to_csv(to / "one.csv", index=False)
    return to / "one.csv"


def test_faults(labelled_run, tmp_path):
    items = draw(labelled_run, 10, "cascade", "anna")
    label_all(items, LabelFile(labelled_run, "anna"), pressed("rr"), lambda _text: None)
    with pytest.raises(DemurError, match="not among these"):
        LabelFile(labelled_run, "anna").check(items[2:])
    with pytest.raises(DemurError, match=r"annotator '\.\./x'"):
        LabelFile(labelled_run, "../x")
    with pytest.raises(DemurError, match="no verdicts of lexicon"):
        draw(labelled_run, 10, "lexicon", "anna")
    path = labelled_run / "labels" / "anna.csv"
    path.write_text(path.read_text().replace("refused", "maybe", 1))
    with pytest.raises(DemurError, match="1 rows with an unknown label"):
        LabelFile(labelled_run, "anna")
    for words, match in ((["--annotator", "x", "--table", "t.csv"], "either"), (["--table", "t.xlsx"], "CSV")):
        with pytest.raises(DemurError, match=match):
            CliRunner().invoke(APP, ["label", str(labelled_run), *words], catch_exceptions=False)
    with pytest.raises(DemurError, match="needs a terminal"):
        CliRunner().invoke(APP, ["label", str(labelled_run), "--annotator", "ben"], catch_exceptions=False)
    path.unlink()
    with pytest.raises(DemurError, match="no labels"):
        labelled_table(labelled_run)


class Terminal:
    """``demur label`` in a real terminal of 24 rows."""

    def __init__(self, folder, *words):
        self.ours, theirs = pty.openpty()
        ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "demur", "label", str(folder), "--n", "8", *words]
        environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True, env=environment
        )
        os.close(theirs)
        self.seen = ""

    def until(self, words, seconds=90):
        end = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.ours, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert words in self.seen
        before, self.seen = self.seen.split(words, 1)
        return before

    def press(self, key):
        os.write(self.ours, key.encode())

    def close(self):
        code = self.process.wait(60)
        os.close(self.ours)
        return code


def test_in_a_terminal_killed_and_gone_on(labelled_run):
    first = Terminal(labelled_run, "--annotator", "anna")
    shown = first.until("q quit")
    assert "1 of 8" in shown
    first.press("r")
    shown += first.until("q quit")
    first.press("\x1b[C")
    first.until("q quit")
    first.press("c")
    shown += first.until("3 of 8")
    first.process.send_signal(signal.SIGKILL)
    first.close()
    assert len(LabelFile(labelled_run, "anna").labels) == 2

    second = Terminal(labelled_run, "--annotator", "anna")
    assert "3 of 8" in second.until("q quit")
    for number in range(4, 9):
        second.press("p")
        shown += second.until(f"{number} of 8")
        second.until("q quit")
    second.press("r")
    second.until("8 labelled, 0 to go")
    second.until("Next: demur label")
    assert second.close() == 0
    for sequence in ("\x1b]0", "\x9b", "\u202e", "\x07"):
        assert sequence not in shown
    labels = pd.read_csv(labelled_run / "labels" / "anna.csv")
    assert Counter(labels["label"]) == {"partial": 5, "refused": 2, "complied": 1}
    known = pq.read_table(labelled_run / "verdicts" / "cascade.parquet").to_pandas()
    assert len(labels.merge(known, on=["prompt_id", "sample", "response_sha256"])) == 8
