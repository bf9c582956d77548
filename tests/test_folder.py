"""Folders of submissions, boards as files, and the commands, on real runs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demur.benchmark.errors import DemurError
from demur.benchmark.files import write_json
from demur.cli import app
from demur.leaderboard.board import as_json
from demur.leaderboard.folder import build_board, read_board, read_folder
from demur.leaderboard.submissions.submission import Declared, submit
from demur.tests.adversaries.submissions import HOSTILE
from demur.tests.submissions import DENSE, MOE, Made, scored_run

runner = CliRunner()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("runs")
    return {
        "dense": scored_run(place / "dense", temperature=0.0),
        "moe": scored_run(place / "moe", model=Made(info=MOE), temperature=0.0),
        "poor": scored_run(place / "poor", model=Made(info=replace(DENSE, id="maker/poor"), slips=2), temperature=0.0),
    }


@pytest.fixture(scope="module")
def submissions(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("submissions")
    submit(runs["dense"], place)
    submit(runs["moe"], place, declared=Declared(upcycled_from="maker/small"))
    submit(runs["poor"], place)
    return place


@pytest.fixture
def copied(submissions: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(submissions, tmp_path / "submissions"))


def of(folder: Path, model: str) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name.startswith(model))


def test_a_board_from_real_runs(submissions: Path) -> None:
    found = build_board(submissions)
    assert [row.model.id for row in found.rows[2:]] == ["maker/poor"]
    assert [row.rank for row in found.rows] == [1, 1, 3]
    (null,) = found.null_tests
    assert (null.tie, null.identical) == (True, True)
    assert found.prompts is not None
    assert found.prompts.pairs == 10


def test_broken_submissions_stop_none_of_the_others(copied: Path) -> None:
    HOSTILE["labels changed, hash too"][0](of(copied, "maker--poor"))
    (copied / "not-a-submission").mkdir()
    found = build_board(copied)
    assert len(found.rows) == 2
    assert {one.name for one in found.refused} == {of(copied, "maker--poor").name, "not-a-submission"}
    assert all(one.problems for one in found.refused)


def test_a_copy_under_another_name_is_refused(copied: Path) -> None:
    stolen = of(copied, "maker--small-public")
    info = json.loads((stolen / "submission.json").read_text())
    info |= {"id": "thief-model", "created_at": "2999-01-01T00:00:00+00:00"}
    info["model"]["id"] = "thief/model"
    shutil.copytree(stolen, copied / "thief-model")
    (copied / "thief-model" / "submission.json").write_text(json.dumps(info))
    found = read_folder(copied)
    assert [one.name for one in found.refused] == ["thief-model"]
    assert "a copy of the other" in found.refused[0].problems[0]


def test_notices_and_human_labels_are_the_maintainers(copied: Path) -> None:
    dense, poor = of(copied, "maker--small-public"), of(copied, "maker--poor")
    write_json(copied / "notices.json", {"tiers": {dense.name: "verified"}, "withdrawn": {poor.name: "wrong template"}})
    rows = read_folder(copied).submissions[0].verdicts
    (copied / "human").mkdir()
    rows[["prompt_id", "sample", "label"]].to_csv(copied / "human" / f"{dense.name}.csv", index=False)
    found = {row.id: row for row in build_board(copied).rows}
    assert (found[dense.name].tier, found[poor.name].state) == ("verified", "withdrawn")
    assert found[dense.name].corrected is not None
    write_json(copied / "notices.json", {"withdrawn": {"nobody": "gone"}})
    with pytest.raises(DemurError, match="'nobody', which is not here"):
        build_board(copied)
    write_json(copied / "notices.json", {"tiers": {dense.name: "best"}})
    with pytest.raises(DemurError, match="'best' is not one of"):
        build_board(copied)


def test_boards_as_files(submissions: Path, tmp_path: Path) -> None:
    board = build_board(submissions, made_at="2025-11-23T12:00:00+00:00")
    write_json(tmp_path / "board.json", as_json(board))
    assert read_board(tmp_path / "board.json") == board
    (tmp_path / "board.json").write_text("{}")
    with pytest.raises(DemurError, match="'rows' is a required property"):
        read_board(tmp_path / "board.json")
    with pytest.raises(DemurError, match="no such folder"):
        build_board(tmp_path / "nothing")


def command(*arguments: object) -> str:
    done = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_way_from_run_to_page_by_command(runs: dict[str, Path], tmp_path: Path) -> None:
    to = tmp_path / "submissions"
    said = command("submit", runs["dense"], "--to", to, "--contact", "me", "--maker", "us")
    assert "Next: demur leaderboard build" in said
    assert "C@4 0." in said
    command("submit", runs["moe"], "--to", to, "--upcycled-from", "maker/small")
    said = command("leaderboard", "build", to, "--out", tmp_path / "site")
    assert "null test passed" in said
    assert "1 (1–2)" in said
    assert (tmp_path / "site" / "index.html").is_file()
    board = tmp_path / "site" / "downloads" / "board.json"
    assert r"\begin{longtable}" in command("leaderboard", "export", board, "--latex")
    command("leaderboard", "export", to, "--csv", "--out", tmp_path / "board.csv")
    assert "of 1 ranked model" in command(
        "leaderboard", "figure", board, "curves", "--model", "maker/small", "--out", tmp_path / "c.svg"
    )
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    command("leaderboard", "figure", board, "plane", "--out", tmp_path / "p.pdf")
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
    for wrong, reason in (
        (["curves", "--model", "nobody"], "no ranked model 'nobody'"),
        (["spiral"], "no chart 'spiral' of these models"),
    ):
        with pytest.raises(DemurError, match=reason):
            command("leaderboard", "figure", board, *wrong, "--out", tmp_path / "x.svg")
    assert (tmp_path / "board.csv").read_text().count("\n") == 3
    assert "@software{demur" in command("cite")
    assert "demur-scorer" in command("cite", board)
    said = command("leaderboard", "compare", of(to, "maker--small-public"), of(to, "maker--small-moe"))
    assert "100.0% of the verdicts are the same" in said


def test_consistency_by_command(tmp_path: Path, submissions: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("who,what,said,tier\n" + "a,p,no,x\na,p,yes,x\nb,p,no,x\na,q,no,y\n")
    flags = ["--model-col", "who", "--prompt-col", "what", "--label-col", "said", "--map", "no=refused,yes=complied"]
    found = json.loads(command("consistency", table, *flags, "--group-col", "tier", "--json"))
    keys = {"model", "n", "refusal_rate", "refusal_rate_strict", "ssi", "flip_rate", "unstable", "alpha"}
    assert all(keys | {"variance_shares", "refuse_k"} <= set(one) for one in found["models"])
    assert [one["model"] for one in found["models"]] == ["a", "b"]
    assert found["models"][0]["refusal_rate"] == 0.75
    said = command("consistency", table, *flags, "--out", tmp_path / "track.json", "--name", "Others")
    assert "The track is in" in said
    command("leaderboard", "build", submissions, "--external", tmp_path / "track.json", "--out", tmp_path / "site")
    assert [track.name for track in read_board(tmp_path / "site" / "downloads" / "board.json").external] == ["Others"]
