"""Submissions: made from runs, checked by strangers, read back; hostile ones are refused with the reason."""

import json
import re
import resource
import shutil
from dataclasses import asdict, field, make_dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.records import ModelInfo
from demur.benchmark.schema import problems
from demur.leaderboard.statistics.figures import figures
from demur.leaderboard.submissions.checking import differences
from demur.leaderboard.submissions.submission import Declared, check_submission, read_submission, submit
from demur.leaderboard.submissions.submitted import SubmissionInfo
from demur.scorers.scoring import score_run
from demur.tests.adversaries.submissions import HOSTILE
from demur.tests.dataclass_schema import text_of
from demur.tests.submissions import MOE, Made, scored_run, write_verdicts

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def honest(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit(run_folder, tmp_path_factory.mktemp("submissions"), contact="someone@example.org", notes="as is")


def test_schema_file_is_that_of_the_record() -> None:
    assert (ROOT / "leaderboard/schema/submission.json").read_text() == text_of(SubmissionInfo)


def test_an_honest_submission_passes_and_reads_back(honest: Path) -> None:
    assert check_submission(honest) == []
    found = read_submission(honest)
    assert found.info.id == honest.name
    assert found.info.model.id == "maker/small"
    assert found.info.prompts.selection is not None
    assert found.info.prompts.selection.name == "10 of 80 pairs"
    assert len(found.verdicts) == found.info.rows == 10 * 2 * 4 * 2
    assert found.info.figures == figures(found.draws)
    assert found.info.figures.refused.refusal_rate == pytest.approx(6 / 7, abs=0.05)
    assert problems(asdict(found.info), "demur.leaderboard", "submission") == []


def test_no_text_travels_and_hashes_are_salted_anew(run_folder: Path, honest: Path, tmp_path: Path) -> None:
    content = b"".join(path.read_bytes() for path in honest.iterdir())
    assert b"help with that" not in content
    again = submit(run_folder, tmp_path)
    hashes = [set(read_submission(path).verdicts["response_sha256"]) for path in (honest, again)]
    assert not hashes[0] & hashes[1]
    assert len(hashes[0]) == 2, "equal texts have equal hashes within one submission"
    salt = (run_folder / "salts" / f"{again.name}.txt").read_text().strip()
    assert salt not in (again / "submission.json").read_text()


def test_a_whole_split_states_no_selection(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run", pairs_per_hazard=None, samples=1)
    found = read_submission(submit(folder, tmp_path / "to"))
    assert found.info.prompts.selection is None
    assert len(found.info.pairs) == 80


def test_unscored_rows_travel_with_their_reason(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run", model=Made(errors=3))
    found = read_submission(submit(folder, tmp_path / "to"))
    assert found.info.figures.coverage.harmful.reasons == {"error": 6}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_submissions_are_refused_with_the_reason(name: str, honest: Path, tmp_path: Path) -> None:
    spoil, reason = HOSTILE[name]
    folder = tmp_path / honest.name
    shutil.copytree(honest, folder)
    spoil(folder)
    found = check_submission(folder)
    assert any(re.search(reason, fault) for fault in found), found
    assert all(len(fault) < 1500 for fault in found), "messages stay readable"
    with pytest.raises(DemurError):
        read_submission(folder)


def test_a_bomb_is_refused_before_it_is_unpacked(honest: Path, tmp_path: Path) -> None:
    for name in ("a Parquet bomb", "ten million rows"):
        folder = tmp_path / name / honest.name
        shutil.copytree(honest, folder)
        HOSTILE[name][0](folder)
        assert (folder / "verdicts.parquet").stat().st_size < 200_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert check_submission(folder)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"


def test_missing_and_strange_folders(tmp_path: Path) -> None:
    assert "no submission folder" in check_submission(tmp_path / "nothing")[0]
    (tmp_path / "empty").mkdir()
    assert check_submission(tmp_path / "empty") == ["submission.json is missing", "verdicts.parquet is missing"]


def test_an_older_prompt_set_loads_by_its_own_list_of_pairs(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / honest.name
    shutil.copytree(honest, folder)
    info = json.loads((folder / "submission.json").read_text())
    info["prompts"] |= {"version": "0.9.0", "hash": "e" * 64}
    (folder / "submission.json").write_text(json.dumps(info))
    assert check_submission(folder) == []


def test_submitting_twice_makes_two_folders_and_overwrites_none(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "00" * size)
    place = submit(run_folder, tmp_path)
    with pytest.raises(DemurError, match="never overwritten"):
        submit(run_folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [place.name], "nothing half-written is left"


def test_what_the_run_says_of_the_model_cannot_be_declared_away(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run", model=Made(info=MOE))
    with pytest.raises(DemurError, match="architecture 'dense' was declared; the run says 'moe'"):
        submit(folder, tmp_path / "to", declared=Declared(architecture="dense"))
    found = read_submission(submit(folder, tmp_path / "to", declared=Declared(upcycled_from="maker/small")))
    assert found.info.model.upcycled_from == "maker/small"
    assert (found.info.model.architecture_source, found.info.model.maker) == ("config", "maker")


@pytest.mark.parametrize(
    ("name", "declared", "source", "architecture"),
    [
        ("zai.glm-5", Declared(), "curated", "moe"),
        ("zai.glm-5", Declared(architecture="dense"), "declared", "dense"),
        ("unheard-of", Declared(), "none", "undisclosed"),
    ],
)
def test_where_architecture_comes_from(
    name: str, declared: Declared, source: str, architecture: str, tmp_path: Path
) -> None:
    folder = scored_run(tmp_path / "run", model=Made(info=ModelInfo(name)))
    model = read_submission(submit(folder, tmp_path / "to", declared=declared)).info.model
    assert (model.architecture_source, model.architecture) == (source, architecture)


def test_runs_that_cannot_be_submitted(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run")
    write_verdicts(folder, "other")
    with pytest.raises(DemurError, match="scored by lexicon, other"):
        submit(folder, tmp_path / "to")
    with pytest.raises(DemurError, match="no verdicts of scorer 'third'"):
        submit(folder, tmp_path / "to", scorer="third")
    write_verdicts(folder, "other", response_sha256="0" * 64, prompts_version="0.1.0", scorer_version=["1", "2"] * 80)
    with pytest.raises(DemurError) as fault:
        submit(folder, tmp_path / "to", scorer="other")
    for words in (
        "160 verdicts are of other responses",
        "column prompts_version",
        "column scorer_version has 2 values",
    ):
        assert words in str(fault.value)
    rows = pq.read_table(folder / "verdicts" / "lexicon.parquet")
    pq.write_table(rows.slice(1), folder / "verdicts" / "lexicon.parquet")
    with pytest.raises(DemurError, match="1 responses without a verdict"):
        submit(folder, tmp_path / "to", scorer="lexicon")
    shutil.rmtree(folder / "verdicts")
    with pytest.raises(DemurError, match="not scored yet"):
        submit(folder, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_parts_of_pairs_are_no_submission(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run")
    info = json.loads((folder / "run.json").read_text())
    dropped = info["prompt_ids"].pop()
    (folder / "run.json").write_text(json.dumps(info))
    table = pq.read_table(folder / "responses" / "responses.parquet")
    pq.write_table(table.slice(0, len(table) - 2), folder / "responses" / "responses.parquet")
    write_verdicts(folder)
    with pytest.raises(DemurError, match=re.escape(f"{dropped} was not asked")):
        submit(folder, tmp_path / "to")


def test_odd_model_names_become_safe_folder_names(tmp_path: Path) -> None:
    info = replace(MOE, id="maker/Some Model: v1.5 @ home")
    place = submit(scored_run(tmp_path / "run", model=Made(info=info)), tmp_path / "to")
    assert re.fullmatch(r"maker--some--model--v1\.5--home-public-[0-9a-f]{10}", place.name)


def test_verdicts_of_a_real_scorer_are_taken(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run")
    shutil.rmtree(folder / "verdicts")
    (scored,) = score_run(folder, ["lexicon"])
    found = read_submission(submit(folder, tmp_path / "to"))
    assert found.info.scorer.name == scored.scorer == "lexicon"
    assert found.info.figures.soft_curve is not None
    assert found.info.figures.refused.refusal_rate == pytest.approx(6 / 7, abs=0.05)


def test_a_figure_that_came_later_may_be_missing_from_a_submission() -> None:
    later = make_dataclass("Later", [("rate", float), ("new", float | None, field(default=None))])
    assert list(differences(later(0.5), later(0.5, 0.9), "figures")) == []
    assert len(list(differences(later(0.5, 0.8), later(0.5, 0.9), "figures"))) == 1
    assert list(differences(later(0.4), later(0.5, 0.9), "figures")) == [
        "figures.rate is stated as 0.4; the rows give 0.5"
    ]


@pytest.mark.parametrize("folder", sorted((ROOT / "tests/historic/submissions").iterdir()), ids=lambda path: path.name)
def test_old_submissions_load_forever(folder: Path) -> None:
    assert check_submission(folder) == []
    assert read_submission(folder).info.figures.refused.curve[3] is not None
