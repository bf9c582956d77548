"""``demur run`` and the check of a run folder, from the command line's side."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from demur import cli_run
from demur.benchmark.errors import DemurError
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.running import read_run

app = typer.Typer()
app.command()(cli_run.run)
app.command()(cli_run.check)
RESPONSES = 2 * len(load_prompt_set("public", pairs_per_hazard=1).prompts)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    rows = [
        {"prompt_id": prompt.id, "sample": sample, "text": "No."}
        for prompt in load_prompt_set("public", pairs_per_hazard=1).prompts
        for sample in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_run_then_check(answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["run", f"replay:{answers}", "--out", str(out), "--samples", "2", "--limit-pairs", "1"]
    done = CliRunner().invoke(app, [*command, "--model-id", "maker/model", "--seed", "7"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}: {RESPONSES} responses, 0 of them errors\nNext: demur score {out}\n"
    run = read_run(out)
    assert (run.info.model.id, run.info.sampling.seed, run.info.samples) == ("maker/model", 7, 2)
    assert run.info.provenance == load_prompt_set("public", pairs_per_hazard=1).provenance
    checked = CliRunner().invoke(app, ["check", str(out)])
    assert checked.exit_code == 0
    assert f"one response per prompt and sample, {RESPONSES} in all, 0 of them errors" in checked.stdout
    again = CliRunner().invoke(app, [*command, "--model-id", "maker/other", "--seed", "7"])
    assert isinstance(again.exception, DemurError)
    assert "model id: 'maker/model' then, 'maker/other' now" in str(again.exception)


def test_errors_are_told_with_what_to_do(answers: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    rows[3] |= {"finish_reason": "error", "error": "timeout"}
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    command = ["run", f"replay:{answers}", "--out", str(out), "--samples", "2", "--limit-pairs", "1"]
    done = CliRunner().invoke(app, command)
    assert done.stdout.startswith(f"{out}: {RESPONSES} responses, 1 of them errors\nNext: the same command again")
    assert "1 of them errors" in CliRunner().invoke(app, ["check", str(out)]).stdout


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert isinstance(failed.exception, DemurError)
    assert "neither a run folder nor" in str(failed.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay:nowhere.jsonl"], "cannot read"),
        (["nothing:x"], "unknown model"),
        (["demo:smollm2", "--split", "secret"], "secret"),
        (["demo:smollm2", "--model-id", "x"], "no option model_id"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    failed = CliRunner().invoke(app, ["run", *arguments, "--out", str(tmp_path / "run")])
    assert isinstance(failed.exception, DemurError)
    assert message in str(failed.exception)
    assert not (tmp_path / "run").exists()


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["run", "demo:smollm2"]).exit_code == 2
    assert CliRunner().invoke(app, ["run", "x", "--out", str(tmp_path), "--samples", "0"]).exit_code == 2
