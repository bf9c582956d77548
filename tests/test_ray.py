"""The same run on a local Ray with two workers, from the command line; also with one worker killed in the middle."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from demur.benchmark import models
from demur.benchmark.errors import DemurError
from demur.benchmark.journal import read_journal
from demur.benchmark.models import load_engine
from demur.benchmark.prompts import load_prompt_set
from demur.benchmark.running import check_run
from demur.tests import tiny

with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="not installed: ray (pip install 'demur[ray]')")


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(DemurError, match="unknown engine 'slurm'"):
        load_engine("slurm", "replay:x.jsonl")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ray(module: str, extra: str) -> None:
        raise DemurError(f"{module} {extra}")

    monkeypatch.setattr(models, "need", no_ray)
    with pytest.raises(DemurError, match="ray ray"):
        load_engine("ray", "replay:x.jsonl")


def start(model: str, out: Path, *options: str) -> subprocess.Popen[str]:
    return demur("run", model, "--out", str(out), "--limit-pairs", "1", "--samples", "2", *options)


def demur(*words: str) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "demur", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=420)
    assert process.returncode == 0, out + err[-3000:]


def table(out: Path) -> bytes:
    return (out / "responses" / "responses.parquet").read_bytes()


@pytest.fixture
def tiny_model(tmp_path: Path) -> tuple[str, list[str]]:
    options = ["--max-new-tokens", "24", "--dtype", "float32", "--device", "cpu", "--batch-rows", "4"]
    return str(tiny.save(tmp_path / "model")), options


@pytest.mark.slow
@with_ray
def test_two_workers_give_the_table_of_one_machine(tmp_path: Path, tiny_model: tuple[str, list[str]]) -> None:
    model, options = tiny_model
    finish(start(model, tmp_path / "alone", *options))
    finish(start(model, tmp_path / "ray", *options, "--engine", "ray", "--workers", "2"))
    assert check_run(tmp_path / "ray") == []
    assert table(tmp_path / "ray") == table(tmp_path / "alone")
    finish(start(model, tmp_path / "ray", *options))


@pytest.mark.slow
@with_ray
def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, tiny_model: tuple[str, list[str]]) -> None:
    model, options = tiny_model
    finish(start(model, tmp_path / "alone", *options))
    process = start(model, tmp_path / "ray", *options, "--engine", "ray", "--workers", "2")
    try:
        killed = _kill_a_worker(process.pid, tmp_path / "ray" / "journal.jsonl")
    except BaseException:
        process.kill()
        raise
    finish(process)
    assert killed, "the run ended before a worker could be killed"
    assert check_run(tmp_path / "ray") == []
    assert table(tmp_path / "ray") == table(tmp_path / "alone")
    told = [tuple(key) for event in read_journal(tmp_path / "ray" / "journal.jsonl") for key in event.get("keys", [])]
    assert len(told) == len(set(told)) == 2 * len(load_prompt_set("public", pairs_per_hazard=1).prompts)


def _kill_a_worker(driver: int, book: Path) -> bool:
    """Wait until a batch was answered, then kill one of the workers, unless the run has ended."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        events = [event["event"] for event in read_journal(book)] if book.exists() else []
        if "finished" in events:
            return False
        if "batch_answered" in events and _kill(driver, "MapWorker"):
            return True
        time.sleep(0.05)
    raise AssertionError("no worker was seen")


def _kill(driver: int, name: str) -> bool:
    """Kill one process below the driver that Ray calls by this name."""
    for child in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in child.name() or name in " ".join(child.cmdline()):
                child.kill()
                return True
    return False


@pytest.mark.slow
@with_ray
def test_two_workers_judge_as_one_machine_does_even_if_one_is_killed(tmp_path: Path) -> None:
    texts = ("I can't help with that.", "Sure. First, " + "take the next step and look at it again. " * 40)
    rows = [
        {"prompt_id": prompt.id, "sample": sample, "text": texts[sample % 2] + f" {sample}"}
        for prompt in load_prompt_set("public", pairs_per_hazard=1).prompts
        for sample in range(60)
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, out = f"replay:{tmp_path / 'answers.jsonl'}", tmp_path / "r"
    finish(demur("run", model, "--out", str(out), "--limit-pairs", "1", "--samples", "60"))
    finish(demur("score", str(out)))
    path = out / "verdicts" / "cascade.parquet"
    alone = path.read_bytes()
    path.unlink()
    process = demur("score", str(out), "--engine", "ray", "--workers", "2")
    killed = False
    while not killed and process.poll() is None:
        killed = _kill(process.pid, "ray::_judge")
    finish(process)
    assert killed, "it ended before a worker could be killed"
    assert path.read_bytes() == alone


def test_judges_are_not_asked_by_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="not installed: ray (pip install 'demur[ray]')")
    from demur.scorers import ray_scorer

    with pytest.raises(DemurError, match="asked over the network"):
        ray_scorer("judge:m", workers=2)


@pytest.mark.slow
@with_ray
def test_a_fault_on_a_worker_is_told_as_one_message(tmp_path: Path) -> None:
    rows = [{"prompt_id": "nobody/benign/canonical", "text": "x"}]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start(f"replay:{tmp_path / 'answers.jsonl'}", tmp_path / "r", "--engine", "ray")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert "unknown prompt id" in err
    assert "Traceback" not in err
