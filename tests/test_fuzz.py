"""Every reader of files against spoiled ones: a valid result or a DemurError, in bounded time, and nothing else."""

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyrage
import pytest
from hypothesis import HealthCheck, given, settings

from demur.benchmark import ledger, pairs, recipients, sealed
from demur.benchmark.errors import DemurError
from demur.benchmark.importers import import_responses
from demur.benchmark.journal import read_journal
from demur.benchmark.manifest import FOLDER, read_manifest
from demur.benchmark.models.replay import ReplayModel
from demur.benchmark.parts import Parts
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.records import Request, Response
from demur.benchmark.runs import check_run, read_run, read_run_info
from demur.benchmark.spool import Spool
from demur.benchmark.stress.cells import Cell, read_cells, write_cells
from demur.benchmark.stress.pairs import read_pairs
from demur.leaderboard import folder as board_folder
from demur.leaderboard.board import as_json
from demur.leaderboard.external import consistency_of, external_track, sides_of
from demur.leaderboard.submissions.checking import read_submission
from demur.leaderboard.submissions.rescoring import read_notices
from demur.leaderboard.submissions.responses import open_responses
from demur.leaderboard.submissions.sealing import seal_responses
from demur.leaderboard.submissions.stress import read_stress
from demur.leaderboard.submissions.submission import check_submission, submit
from demur.leaderboard.tables import Columns, label_table
from demur.scorers import rubric
from demur.scorers.judge_cache import JudgeCache
from demur.scorers.labelled import Columns as LabelledColumns
from demur.scorers.labelled import parse_map, read_labelled
from demur.scorers.labelling import LabelFile
from demur.scorers.precomputed import Precomputed
from demur.scorers.scoring import read_verdicts, score_run
from demur.scorers.verdicts import LABELS
from demur.tests.boards import board
from demur.tests.boards import model as board_model
from demur.tests.bounded import tried
from demur.tests.mutations import TAILS, spoiled
from demur.tests.stress_results import stress_result
from demur.tests.submissions import scored_run

CASES = Path(__file__).parent / "cases"


MAINTAINER = pyrage.x25519.Identity.generate()


@dataclass(frozen=True)
class Home:
    """Whole files of every format, by name, and a folder to spoil them in."""

    files: dict[str, Path]
    work: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    place = tmp_path_factory.mktemp("fuzz")
    run = scored_run(place / "run", samples=1)
    score_run(run, ["lexicon"])
    sent = submit(run, place / "submissions", scorer="lexicon")
    rows = [
        {"model": f"m{number % 3}", "prompt_id": f"p{number % 5}", "label": LABELS[number % 3], "group": "g",
         "response": f"I can't {number}.", "text": "no", "sample": number, "human": "refused"}
        for number in range(30)
    ]  # fmt: skip
    header = ",".join(rows[0])
    (place / "table.csv").write_text("\n".join([header, *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    (place / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), place / "table.parquet")
    (place / "pairs.jsonl").write_text(
        "".join(json.dumps({"id": f"p{n}", "harmful": "a b", "benign": "c d"}) + "\n" for n in range(8))
    )
    write_cells(place / "cells.parquet", [Cell("own", side="harmful", pair_id="p")] * 3)
    ids = [f"{pair.pair_id}/{pair.side}/{pair.variant}" for pair in load_prompt_set(pairs_per_hazard=1).prompts[:4]]
    (place / "anna.csv").write_text(
        "prompt_id,sample,annotator,label,response_sha256\n" + "".join(f"{i},0,anna,refused,{'0' * 64}\n" for i in ids)
    )
    (place / "notices.json").write_text(json.dumps({"tiers": {"x": "verified"}, "withdrawn": {"x": "why"}}))
    table = label_table(board_folder.read_table(place / "table.csv"), Columns())
    track = external_track(table, consistency_of(table, None), name="t", description="d", source="s")
    (place / "track.json").write_text(json.dumps(as_json(track)))
    (place / "board.json").write_text(json.dumps(as_json(board(2, replicates=100))))
    work = place / "work"
    work.mkdir()
    (work / "spool").mkdir()
    Spool(work / "spool", "0" * 64).append(0, Response("p/benign/canonical", 0, "text", "stop"))
    for number in range(3):
        ledger.append(
            place / "ledger.jsonl", "granted", name=f"n{number}", key="age1", split="gated", version="1.0.0",
            conditions="", file="",
        )  # fmt: skip
    shutil.copy(place / "ledger.head.json", work)
    key = str(pyrage.x25519.Identity.generate().to_public())
    recipients.write_recipients(
        place / "recipients.json", recipients.Recipients((recipients.Person("a", key),), (), {})
    )
    public = sorted((FOLDER / "public").glob("*.yaml"))[0]
    packed = pairs.read_pair_files([public])
    (place / "sealed").write_bytes(sealed.pack_pairs("gated", "1.0.0", "canary", packed[:3]))
    whole = public.read_bytes()
    # The first three entries of the list: enough to spoil, and quick to read.
    (place / "pairs.yaml").write_bytes(b"\n- id:".join(whole.split(b"\n- id:")[:4]))
    JudgeCache(place).keep(("a", "b", "c", "d"), rubric.Judgement("refused", "declines"))
    (work / "sent").write_text(str(sent))
    seal_responses(run, sent, place / "sealed responses", [str(MAINTAINER.to_public())])
    (place / "opened responses").write_bytes(
        zlib.decompress(pyrage.decrypt((place / "sealed responses").read_bytes(), [MAINTAINER]))
    )
    (place / "stress test").write_text(json.dumps(stress_result("maker/model")))
    files = {path.name: path for path in place.iterdir() if path.is_file()}
    files |= {path.name: path for path in sent.iterdir()} | {path.name: path for path in (CASES / "imports").iterdir()}
    files |= {path.name: path for path in (run, run / "responses") for path in path.iterdir() if path.is_file()}
    files |= {"run verdicts": run / "verdicts" / "lexicon.parquet", "manifest.json": FOLDER / "manifest.json"}
    files |= {"spool": next((work / "spool").iterdir())}
    return Home(files, work)


def _in_folder(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A reader that takes the folder: of a whole one, the file named so is the spoiled one."""

    def reading(path: Path) -> Any:
        return read(path.parent)

    reading.__name__ = name
    return reading


def _replayed(path: Path) -> list[Response]:
    model = ReplayModel(path)
    requests = [Request(prompt, (0,)) for prompt in load_prompt_set(pairs_per_hazard=1).prompts[:2]]
    plan = model.plan(requests, None)  # type: ignore[arg-type]
    return [response for batch in plan for response in model.respond(batch, None)]  # type: ignore[arg-type]


def _consistency(path: Path) -> object:
    columns = Columns(group="group", sample="sample")
    table = label_table(board_folder.read_table(path), columns, parse_map(["x=refused"]))
    groups = sorted(table.rows["group"].unique())
    return json.dumps(consistency_of(table, sides_of(groups, None, None)), allow_nan=False)


def _labelled(path: Path) -> object:
    return read_labelled(
        path, LabelledColumns("response", "label", "prompt_id", ("model",), "sample", ("human", "label"))
    )


def _spool(path: Path) -> object:
    shutil.copy(path, Spool(path.parent, "0" * 64).path(0))
    found = Spool(path.parent, "0" * 64).read(0)
    return [json.dumps(asdict(response)).encode() for response in found.values()]


def _parts(path: Path) -> object:
    prompts = load_prompt_set(pairs_per_hazard=1).prompts
    parts = Parts(path.parent, [[Request(prompt, (0,)) for prompt in prompts]])
    shutil.copy(path, parts.path(0))
    shutil.copy(path, parts.table)
    parts.unfold()
    return parts.read(0)


def _cache(path: Path) -> object:
    shutil.copy(path, path.parent / "judgements.sqlite")
    found = JudgeCache(path.parent)
    found.keep(("x", "b", "c", "d"), rubric.Judgement("refused", "declines"))
    return found.find([("a", "b", "c", "d")])


def _sealed_responses(path: Path) -> object:
    sent = read_submission((path.parent / "sent").read_text())
    return open_responses(path.read_bytes(), sent, [MAINTAINER], path.name)


def _opened_responses(path: Path) -> object:
    """What a submitter sealed is a stranger's too."""
    sealed_again = pyrage.encrypt(zlib.compress(path.read_bytes()), [MAINTAINER.to_public()])
    path.with_name("again.age").write_bytes(sealed_again)
    return _sealed_responses(path.with_name("again.age"))


def _stress(path: Path) -> object:
    found, faults = read_stress(path, board_model())
    assert (found is None) == bool(faults)
    if faults:
        raise DemurError("; ".join(faults))
    return found


def _submission(path: Path) -> object:
    return check_submission(path.parent)


READERS: dict[str, tuple[str, str, str, Callable[[Path], Any]]] = {
    # reader: file that is spoiled, its name there, how, what reads it
    "pairs": ("pairs.yaml", "a.yaml", "bytes", lambda path: pairs.read_pair_files([path])),
    "manifest": ("manifest.json", "manifest.json", "json", _in_folder("manifest.json", read_manifest)),
    "recipients": ("recipients.json", "r.json", "json", recipients.read_recipients),
    "ledger": ("ledger.jsonl", "ledger.jsonl", "lines", ledger.read_ledger),
    "ledger head": ("ledger.head.json", "ledger.head.json", "json", lambda p: ledger.head(p.with_name("ledger.jsonl"))),
    "sealed responses": ("sealed responses", "r.age", "bytes", _sealed_responses),
    "opened responses": ("opened responses", "r.jsonl", "lines", _opened_responses),
    "stress test": ("stress test", "stress.json", "json", _stress),
    "sealed": ("sealed", "gated", "bytes", lambda path: sealed.unpack(path.read_bytes(), "x")),
    "run.json": ("run.json", "run.json", "json", read_run_info),
    "journal": ("journal.jsonl", "journal.jsonl", "lines", read_journal),
    "spool": ("spool", "s.jsonl", "lines", _spool),
    "parts": ("responses.parquet", "given.parquet", "parquet", _parts),
    "verdicts": ("run verdicts", "lexicon.parquet", "parquet", read_verdicts),
    "labels": ("anna.csv", "anna.csv", "lines", lambda path: dict(_label_file(path).labels)),
    "human labels": ("anna.csv", "h.csv", "lines", board_folder._human),
    "notices": ("notices.json", "notices.json", "json", _in_folder("notices", read_notices)),
    "board": ("board.json", "board.json", "json", board_folder.read_board),
    "track": ("track.json", "track.json", "json", board_folder.read_track),
    "consistency csv": ("table.csv", "t.csv", "lines", _consistency),
    "consistency jsonl": ("table.jsonl", "t.jsonl", "lines", _consistency),
    "consistency parquet": ("table.parquet", "t.parquet", "parquet", _consistency),
    "compressed table": ("table.csv", "t.csv.gz", "bytes", _consistency),
    "labelled csv": ("table.csv", "t.csv", "lines", _labelled),
    "labelled jsonl": ("table.jsonl", "t.jsonl", "lines", _labelled),
    "labelled parquet": ("table.parquet", "t.parquet", "parquet", _labelled),
    "precomputed csv": ("table.csv", "t.csv", "lines", Precomputed),
    "precomputed jsonl": ("table.jsonl", "t.jsonl", "lines", Precomputed),
    "precomputed gz": ("table.csv", "t.csv.gz", "bytes", Precomputed),
    "replay csv": ("table.csv", "t.csv", "lines", _replayed),
    "replay jsonl": ("table.jsonl", "t.jsonl", "lines", _replayed),
    "replay parquet": ("table.parquet", "t.parquet", "parquet", _replayed),
    "inspect": ("inspect.eval", "i.eval", "bytes", lambda p: import_responses(p, p.with_name("out.jsonl"))),
    "lm-eval": ("samples_demur.jsonl", "l.jsonl", "lines", lambda p: import_responses(p, p.with_name("out.jsonl"))),
    "judge cache": ("judgements.sqlite", "given.sqlite", "bytes", _cache),
    "stress pairs": ("pairs.jsonl", "p.jsonl", "lines", read_pairs),
    "stress cells": ("cells.parquet", "c.parquet", "parquet", read_cells),
}
FOLDERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    # reader: file that is spoiled, how, what reads its folder
    "submission.json": ("submission.json", "json", _submission),
    "submission rows": ("verdicts.parquet", "parquet", _submission),
    "run folder journal": ("journal.jsonl", "lines", lambda path: (check_run(path.parent), read_run(path.parent))),
    "run folder": ("run.json", "json", lambda path: (check_run(path.parent), read_run(path.parent))),
    "run responses": (
        "responses.parquet", "parquet", lambda path: (check_run(path.parent.parent), read_run(path.parent.parent))
    ),
}  # fmt: skip


UNFIT = frozenset({"compressed table", "precomputed gz", "replay csv", "replay jsonl", "replay parquet"})
"""The file that is spoiled is not what the reader wants; only the others must be read whole before they are spoiled."""


def _label_file(path: Path) -> LabelFile:
    (path.parent / "labels").mkdir(exist_ok=True)
    shutil.copy(path, path.parent / "labels" / "anna.csv")
    return LabelFile(path.parent, "anna")


def _fuzz(home: Home, name: str, examples: int) -> None:
    if name in READERS:
        source, called, kind, read = READERS[name]
        path = home.work / called
    else:
        source, kind, read = FOLDERS[name]
        folder = home.files[source].parent
        folder = folder.parent if folder.name == "responses" else folder
        copy = home.work / "copies" / folder.name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        path = copy / home.files[source].relative_to(folder)
    whole = home.files[source].read_bytes()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(spoiled(whole, kind))
    def attack(content: bytes) -> None:
        path.write_bytes(content)
        tried(read, path)

    path.write_bytes(whole)
    if name not in UNFIT:
        read(path)
    try:
        # Every hostile beginning once, whatever the generator draws.
        for tail in TAILS:
            for content in (tail, whole + tail, tail + whole):
                path.write_bytes(content)
                tried(read, path)
        attack()
    finally:
        # Other readers need this file too.
        path.write_bytes(whole)


@pytest.mark.parametrize("name", [*READERS, *FOLDERS])
def test_spoiled_files_are_named_or_read(home: Home, name: str) -> None:
    _fuzz(home, name, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*READERS, *FOLDERS])
def test_many_spoiled_files_are_named_or_read(home: Home, name: str) -> None:
    _fuzz(home, name, 150)
