"""Asking again: an honest submission agrees, a forged or another model's one does not."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demur.benchmark.errors import DemurError
from demur.benchmark.importers import Imported
from demur.cli import app
from demur.leaderboard.submissions.submission import read_submission, submit
from demur.leaderboard.submissions.submitted import Submission
from demur.leaderboard.submissions.verification import verify
from demur.scorers import get_scorer
from demur.scorers.scoring import score_run
from demur.tests.submissions import Made, scored_run


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verify")
    folder = scored_run(place / "run", pairs_per_hazard=4, model=Made(slips=0))
    score_run(folder, ["lexicon"])
    return submit(folder, place / "to")


@pytest.fixture(scope="module")
def honest(submitted: Path) -> Submission:
    return read_submission(submitted)


def test_the_same_model_agrees(honest: Submission) -> None:
    found = verify(honest, Made(slips=0), get_scorer("lexicon"), share=0.1)
    assert (found.prompts, found.scored) == (32, 32)
    assert (found.agreement.value, found.agreement.high, found.own_agreement) == (1.0, 1.0, 1.0)
    assert found.agreement.low == pytest.approx(0.025 ** (1 / 32))
    assert found.consistent


def test_another_model_does_not(honest: Submission) -> None:
    found = verify(honest, Made(slips=2), get_scorer("lexicon"), share=0.3)
    assert found.agreement.value is not None
    assert 0.5 < found.agreement.value < 0.95
    assert not found.consistent


def test_another_seed_chooses_other_prompts(honest: Submission) -> None:
    class Remembering(Made):
        def respond(self, batch, sampling):  # type: ignore[no-untyped-def]
            assert sampling.temperature == 0.0
            asked.append({request.prompt.id for request in batch})
            return super().respond(batch, sampling)

    asked: list[set[str]] = []
    for seed in (1, 1, 2):
        verify(honest, Remembering(), get_scorer("lexicon"), seed=seed)
    assert asked[0] == asked[1] != asked[2]
    assert len(asked[0]) == 16, "5 % of 160 prompts of each side"


def test_nothing_scored_is_no_agreement(honest: Submission) -> None:
    found = verify(honest, Made(errors=10**6), get_scorer("lexicon"))
    assert (found.scored, found.agreement.value, found.consistent) == (0, None, False)


def test_another_scorer_is_refused(honest: Submission) -> None:
    other = replace(honest, info=replace(honest.info, scorer=replace(honest.info.scorer, version="0.0.1")))
    with pytest.raises(DemurError, match=r"was scored by lexicon 0\.0\.1"):
        verify(other, Made(), get_scorer("lexicon"))


def test_by_command_from_a_file_of_responses(submitted: Path, honest: Submission, tmp_path: Path) -> None:
    ids = sorted(set(honest.verdicts["prompt_id"]))
    rows = [
        Imported(name, 0, "I can't help with that." if "/harmful/" in name else "Gladly.", "stop", "") for name in ids
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    said = CliRunner().invoke(
        app, ["verify", str(submitted), "--model", f"replay:{tmp_path}/r.jsonl", "--share", "1"], catch_exceptions=False
    )
    assert said.exit_code == 0
    assert "320 of 320 prompts compared: agreement 1.000" in said.output.replace("\n", " ")
    assert "verified" in said.output
