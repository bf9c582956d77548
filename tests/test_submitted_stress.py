"""Stress tests attached to submissions: taken where they are of the model and possible, refused with the reason."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from demur.benchmark.errors import DemurError
from demur.benchmark.schema import problems
from demur.cli import app
from demur.leaderboard.board import Board, as_json
from demur.leaderboard.folder import build_board, read_board
from demur.leaderboard.pages.site import build_site
from demur.leaderboard.stress import stress_report
from demur.leaderboard.submissions.stress import read_stress
from demur.leaderboard.submissions.submission import check_submission, read_submission, submit
from demur.tests.stress_results import arm, curves, stress_result, write_stress
from demur.tests.submissions import MOE, Made, scored_run

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_run(tmp_path_factory.mktemp("stressed") / "run", model=Made(info=MOE))


@pytest.fixture(scope="module")
def stressed(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stressed-to")
    return submit(run_folder, place, stress=write_stress(place / "stress", stress_result("maker/small-moe", experts=4)))


@pytest.fixture(scope="module")
def board(stressed: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("stressed-board")
    shutil.copytree(stressed, folder / stressed.name)
    submit(scored_run(folder.parent / "stressed-dense"), folder)
    return build_board(folder, made_at="2026-01-01T00:00:00+00:00")


def test_the_file_that_the_tests_make_fits_the_stress_tests_schema() -> None:
    for value in (stress_result(), stress_result("maker/small-moe", experts=4)):
        assert problems(value, "demur.benchmark", "stress") == []


def test_it_travels_with_its_hash_and_reads_back(stressed: Path) -> None:
    assert check_submission(stressed) == []
    found = read_submission(stressed)
    assert found.info.stress_sha256 == sha256((stressed / "stress.json").read_bytes()).hexdigest()
    assert found.stress == stress_result("maker/small-moe", experts=4)


def test_the_board_has_figures_controls_and_reasons(board: Board) -> None:
    by_model = {row.model.id: row.stress for row in board.rows}
    assert by_model["maker/small"] is None
    report = by_model["maker/small-moe"]
    assert report is not None
    assert (report.pairs, report.refusal_rate, report.judge) == (24, 0.95, "cascade 1.0.0")
    systems = {one.system: one for one in report.systems}
    assert list(systems) == ["S1", "S2", "S4", "S5"]
    first = {figure.name: figure.estimate.value for figure in systems["S1"].figures}
    assert first == pytest.approx(
        {"answered": 0.8, "dose_50": 0.6, "area": 0.582, "drop_at_equal_kl": 0.08, "over_refusal_induced": 0.5},
        abs=1e-3,
    )
    assert [control.arm for control in systems["S1"].controls] == ["real", "random_direction", "shuffled_labels"]
    assert len(systems["S1"].curve) == 5
    held = systems["S2"]
    assert (held.published, held.figures, held.curve) == (False, [], [])
    assert "control failed" in held.reason
    assert held.controls[0].answered.value == 0.3
    assert [figure.name for figure in systems["S5"].figures] == ["attention_share", "routed_share", "interaction"]
    shared = {figure.name: figure.estimate.value for figure in report.figures}
    assert shared == {"single_expert_share": 0.69, "expert_concentration": 0.7, "routing_correlation": -0.1}


def test_the_board_goes_through_its_file_and_the_site_shows_it(board: Board, tmp_path: Path) -> None:
    (tmp_path / "board.json").write_text(json.dumps(as_json(board)))
    assert read_board(tmp_path / "board.json") == board
    page = build_site(board, tmp_path / "site").read_text()
    assert 'data-view="stress"' in page
    assert "control failed: random expert" in page


def test_without_a_control_a_system_is_held_back() -> None:
    value = stress_result()
    value["systems"]["S1"]["controls"] = {"real": arm(0.8)}
    first = stress_report(value).systems[0]
    assert (first.published, first.reason, first.figures) == (False, "no control was measured beside it", [])


def setting(*keys: str | int, value: Any) -> Change:
    def change(result: dict[str, Any]) -> None:
        place: Any = result
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def all_at_once(*changes: Change) -> Change:
    def change(result: dict[str, Any]) -> None:
        for one in changes:
            one(result)

    return change


S1 = ("systems", "S1")
HOSTILE: dict[str, tuple[Change, str]] = {
    "another model": (setting("model", "name", value="maker/other"), "is of model 'maker/other'"),
    "another architecture": (setting("model", "architecture", value="dense"), "is of a dense model"),
    "other experts": (setting("model", "experts", value=64), "64 experts in a layer"),
    "NaN": (setting(*S1, "figures", "area", "value", value=float("nan")), "NaN is not a JSON number"),
    "infinity": (setting(*S1, "figures", "area", "value", value=float("inf")), "Infinity is not a JSON number"),
    "a rate above 1": (setting(*S1, "figures", "curve", 1, "refusal_rate", "value", value=1.2), "1.2 is out of range"),
    "a negative rate": (setting("unsteered", "refusal_rate", value=-0.1), r"\$\.unsteered\.refusal_rate"),
    "an area above 1": (setting(*S1, "figures", "area", "high", value=7), "7 is out of range"),
    "an effect above 1": (setting(*S1, "controls", "real", "answered", "value", value=2), "2 is out of range"),
    "a negative dose_50": (setting(*S1, "figures", "dose_50", "value", value=-1), "-1 is out of range"),
    "a dose_50 beyond the doses": (setting(*S1, "figures", "dose_50", "value", value=50), "beyond its largest dose"),
    "a concentration above 1": (setting("experts", "concentration", "value", value=3.0), "3.0 is out of range"),
    "an interval turned round": (setting(*S1, "figures", "area", "low", value=0.9), "an interval from 0.9 down to"),
    "half an interval": (setting(*S1, "figures", "area", "low", value=None), "half an interval"),
    "other doses": (setting("plan", "doses", value=[0.25]), "other doses than its plan"),
    "unpublished but filled": (
        all_at_once(setting(*S1, "published", value=False), setting(*S1, "reason", value="a control failed")),
        "S1 is not published, and yet its figures are filled in",
    ),
    "published but empty": (setting(*S1, "figures", value=None), "S1 is published without figures"),
    "published with a reason against it": (setting(*S1, "reason", value="control failed"), "gives a reason against it"),
    "held back without a reason": (setting("systems", "S2", "reason", value=""), "S2 is held back without a reason"),
    "figures of another system": (setting("systems", "S5", "figures", value=curves(0.5)), "figures of another system"),
    "published though its self-test failed": (
        setting("self_test", 0, "passed", value=False),
        r"self-test failed \(zero_dose\)",
    ),
    "a share of what is held back": (
        all_at_once(
            setting("systems", "S4", "published", value=False),
            setting("systems", "S4", "reason", value="control failed"),
            setting("systems", "S4", "figures", value=None),
        ),
        "single-expert share, though S1 and S4 are not both published",
    ),
    "S5 without S1": (
        all_at_once(
            setting("systems", "S1", "published", value=False),
            setting("systems", "S1", "reason", value="control failed"),
            setting("systems", "S1", "figures", value=None),
        ),
        "its direction is that of S1",
    ),
    "no effect": (setting(*S1, "controls", value={"random_direction": arm(0.0)}), "published without its effect"),
    "markup as an arm": (setting(*S1, "controls", "<script>", value=arm(0.1)), "no name of an arm"),
    "control characters": (setting("systems", "S2", "reason", value="a\u0007b"), "control characters"),
    "a long text": (setting("provenance", "judge", value="x" * 5000), "too long"),
    "an unknown key": (setting("rank", value=1), "'rank' was unexpected"),
    "an unknown system": (setting("systems", "S9", value={}), "S9"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_impossible_results_are_refused_with_the_reason(name: str, stressed: Path, tmp_path: Path) -> None:
    change, reason = HOSTILE[name]
    value = stress_result("maker/small-moe", experts=4)
    change(value)
    source = write_stress(tmp_path, value)
    found, faults = read_stress(source / "stress.json", read_submission(stressed).info.model)
    assert found is None
    assert re.search(reason, "\n".join(faults)), faults


def test_they_are_refused_where_submissions_are_made_and_where_they_are_read(
    run_folder: Path, stressed: Path, tmp_path: Path
) -> None:
    change, reason = HOSTILE["unpublished but filled"]
    value = stress_result("maker/small-moe", experts=4)
    change(value)
    source = write_stress(tmp_path / "stress", value)
    with pytest.raises(DemurError, match=reason):
        submit(run_folder, tmp_path / "to", stress=source)
    # The same, put into a submission by hand with its true hash.
    forged = shutil.copytree(stressed, tmp_path / stressed.name)
    shutil.copy(source / "stress.json", forged / "stress.json")
    info = json.loads((forged / "submission.json").read_text())
    info["stress_sha256"] = sha256((forged / "stress.json").read_bytes()).hexdigest()
    (forged / "submission.json").write_text(json.dumps(info))
    with pytest.raises(DemurError, match=reason):
        read_submission(forged)


def test_a_file_that_was_changed_is_missing_or_was_slipped_in(stressed: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(stressed, tmp_path / "changed" / stressed.name)
    with (changed / "stress.json").open("a") as file:
        file.write(" ")
    assert check_submission(changed) == ["stress.json is not the file whose hash submission.json states"]
    (changed / "stress.json").unlink()
    assert check_submission(changed) == ["stress.json is missing, though submission.json states its hash"]
    (changed / "stress.json").symlink_to(stressed / "stress.json")
    assert check_submission(changed) == ["stress.json is not a plain file"]
    (changed / "stress.json").unlink()
    (changed / "stress.json").write_text(" " * (2**20 + 1))
    assert "are enough" in check_submission(changed)[0]
    slipped = shutil.copytree(stressed, tmp_path / "slipped" / stressed.name)
    info = json.loads((slipped / "submission.json").read_text())
    (slipped / "submission.json").write_text(json.dumps({**info, "stress_sha256": None}))
    assert check_submission(slipped) == ["stress.json is there, but submission.json does not state its hash"]


def test_by_command(run_folder: Path, tmp_path: Path) -> None:
    source = write_stress(tmp_path / "stress", stress_result("maker/small-moe", experts=4))
    arguments = ["submit", str(run_folder), "--to", str(tmp_path / "to"), "--stress"]
    said = CliRunner().invoke(app, [*arguments, str(source)], catch_exceptions=False)
    assert said.exit_code == 0
    (place,) = (tmp_path / "to").iterdir()
    assert read_submission(place).stress is not None
    with pytest.raises(DemurError, match="no such file"):
        CliRunner().invoke(app, [*arguments, str(tmp_path / "nothing")], catch_exceptions=False)
