"""Agreement between the scorers of a run, in its submission and on the board."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

from demur.benchmark.errors import DemurError
from demur.leaderboard.folder import build_board
from demur.leaderboard.pages.data import page_data
from demur.leaderboard.submissions.others import OTHERS_FILE, scorer_agreement
from demur.leaderboard.submissions.rescoring import rescore
from demur.leaderboard.submissions.responses import OpenedResponse
from demur.leaderboard.submissions.submission import check_submission, read_submission, submit
from demur.scorers import get_scorer
from demur.scorers.scoring import read_verdicts, score_run
from demur.tests.adversaries.submissions import edit_info
from demur.tests.submissions import Made, scored_run

SECOND, THIRD = "second", "third"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that three scorers judged: one reads every fifth response the other way, one leaves errors unscored."""
    folder = scored_run(tmp_path_factory.mktemp("others") / "run", model=Made(errors=2))
    path = folder / "verdicts" / "lexicon.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    turned = {"refused": "complied", "complied": "partial", "unscored": "unscored"}
    for name, step in ((SECOND, 5), (THIRD, 1000)):
        other = [
            {**row, "scorer_name": name, "label": turned[row["label"]] if at % step == 0 else row["label"]}
            for at, row in enumerate(rows)
        ]
        pq.write_table(pa.Table.from_pylist(other, schema=table.schema), path.with_name(f"{name}.parquet"))
    return folder


@pytest.fixture(scope="module")
def honest(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit(run_folder, tmp_path_factory.mktemp("others-submissions"), scorer="lexicon")


def test_agreement_travels_and_is_that_of_the_labels(run_folder: Path, honest: Path) -> None:
    assert check_submission(honest) == []
    found = read_submission(honest)
    assert [one.scorer.name for one in found.info.agreement] == [SECOND, THIRD]
    own, other = (read_verdicts(run_folder / "verdicts" / f"{name}.parquet") for name in ("lexicon", SECOND))
    second = found.info.agreement[0]
    for part, where in (("all", "/"), ("harmful", "/harmful/"), ("benign", "/benign/")):
        at = own["prompt_id"].str.contains(where) & (own["label"] != "unscored")
        ours, theirs = ((table.loc[at, "label"] != "complied").to_list() for table in (own, other))
        side = getattr(second, part)
        assert side.n == at.sum()
        assert side.same == pytest.approx(sum(a == b for a, b in zip(ours, theirs, strict=True)) / side.n)
        if len(set(ours + theirs)) > 1:
            assert side.kappa == pytest.approx(cohen_kappa_score(ours, theirs))
    assert second.all.n < found.info.rows
    assert second.all.same < found.info.agreement[1].all.same == pytest.approx(1, abs=0.02)
    assert {path.name for path in honest.iterdir()} == {"submission.json", "verdicts.parquet", OTHERS_FILE}


def test_one_scorer_leaves_no_file(tmp_path: Path) -> None:
    place = submit(scored_run(tmp_path / "run"), tmp_path / "to")
    assert json.loads((place / "submission.json").read_text())["agreement"] == []
    assert not (place / OTHERS_FILE).exists()


def test_verdicts_of_other_responses_are_no_agreement(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    path = folder / "verdicts" / f"{SECOND}.parquet"
    table = pq.read_table(path)
    hashes = pa.array(["0" * 64] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("response_sha256"), "response_sha256", hashes), path)
    with pytest.raises(DemurError, match=f"{SECOND}(.|\n)*of other responses than the run's"):
        submit(folder, tmp_path / "to", scorer="lexicon")


def edited(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / OTHERS_FILE
        pq.write_table(change(pq.read_table(path)), path)

    return spoil


def labels(column: str, value: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(
        table.column_names.index(column), column, pa.array([value, *table[column].to_pylist()[1:]])
    )


def better(folder: Path) -> None:
    edit_info(folder, lambda info: info["agreement"][0]["all"].update(kappa=0.99))


def twice(folder: Path) -> None:
    edit_info(folder, lambda info: info["agreement"].append(info["agreement"][0]))


def of_itself(folder: Path) -> None:
    edit_info(folder, lambda info: info["agreement"][0]["scorer"].update(name="lexicon"))


def of_a_key(folder: Path) -> None:
    edit_info(folder, lambda info: info["agreement"][0]["scorer"].update(name="prompt_id"))


def unsaid(folder: Path) -> None:
    edit_info(folder, lambda info: info.update(agreement=[]))


def linked(folder: Path) -> None:
    (folder / OTHERS_FILE).rename(folder.parent / "elsewhere.parquet")
    (folder / OTHERS_FILE).symlink_to(folder.parent / "elsewhere.parquet")


def bomb(folder: Path) -> None:
    many = pa.table({"prompt_id": ["x" * 1000] * 5000, "sample": pa.array([0] * 5000, pa.int32())})
    pq.write_table(many, folder / OTHERS_FILE, compression="zstd")


HOSTILE = {
    "an agreement that does not follow": (better, r"agreement\[0\]\.all\.kappa is stated as 0.99; the rows give"),
    "labels changed": (edited(labels(SECOND, "partial")), r"agreement\[0\].*is stated as"),
    "a label of its own": (edited(labels(SECOND, "refused!")), f"1 labels of {SECOND} are none of"),
    "a scorer left out": (edited(lambda table: table.drop_columns([THIRD])), f"missing column '{THIRD}'"),
    "a scorer smuggled in": (edited(lambda table: table.append_column("x", table[SECOND])), "unknown column 'x'"),
    "rows of other prompts": (edited(labels("prompt_id", "x/harmful/noisy")), "not the responses of the submission"),
    "rows left out": (edited(lambda table: table.slice(1)), "159 rows"),
    "a scorer twice": (twice, "names a scorer twice"),
    "its own scorer": (of_itself, "or the submission's own"),
    "a scorer named like a key": (of_a_key, "names a scorer twice, or"),
    "a file nobody speaks of": (unsaid, "one is there without the other"),
    "no file": (lambda folder: (folder / OTHERS_FILE).unlink(), "one is there without the other"),
    "a link": (linked, "not a plain file"),
    "too many rows": (bomb, "5000 rows"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_agreement_is_refused(name: str, honest: Path, tmp_path: Path) -> None:
    spoil, reason = HOSTILE[name]
    folder = shutil.copytree(honest, tmp_path / honest.name)
    spoil(folder)
    assert any(re.search(reason, fault) for fault in check_submission(folder)), check_submission(folder)


def test_the_board_and_its_page_show_it(honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest, tmp_path / "s" / honest.name)
    board = build_board(tmp_path / "s")
    assert board.rows[0].agreement == read_submission(honest).info.agreement
    (row,) = page_data(board)["rows"]
    second = board.rows[0].agreement[0]
    assert [one[:2] for one in row["others"]] == [[SECOND, "1.0.0"], [THIRD, "1.0.0"]]
    assert row["others"][0][2] == [second.harmful.n, *(pytest.approx(v, abs=1e-3) for v in (second.harmful.same,))] + [
        pytest.approx(value, abs=1e-3) for value in (second.harmful.kappa, second.harmful.alpha)
    ]


def test_a_rescored_submission_agrees_by_its_new_verdicts(run_folder: Path, honest: Path) -> None:
    found = read_submission(honest)
    texts = pq.read_table(run_folder / "responses" / "responses.parquet").to_pandas()
    texts = texts.sort_values(["prompt_id", "sample"])
    opened = [
        OpenedResponse(row.prompt_id, row.sample, row.text, row.finish_reason, row.error) for row in texts.itertuples()
    ]
    again = rescore(found, opened, get_scorer("cascade"))
    assert found.others is not None
    scorers = [one.scorer for one in found.info.agreement]
    assert again.info.agreement == scorer_agreement(again.verdicts, found.others, scorers)
    assert rescore(replace(found, others=None, info=replace(found.info, agreement=[])), opened, get_scorer("cascade"))


def test_real_scorers(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run")
    (folder / "verdicts" / "lexicon.parquet").unlink()
    score_run(folder, ["lexicon", "cascade"])
    found = read_submission(submit(folder, tmp_path / "to", scorer="cascade"))
    (other,) = found.info.agreement
    assert (other.scorer.name, other.all.n, other.all.same) == ("lexicon", found.info.rows, 1.0)
    assert other.all.kappa == other.all.alpha == 1.0
