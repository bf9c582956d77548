"""Runs: nothing lost, nothing asked twice, the same table after any interruption."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.journal import read_journal
from demur.benchmark.parts import RESPONSE_COLUMNS
from demur.benchmark.records import ModelInfo, Prompt, Provenance, Request, Response, Sampling
from demur.benchmark.running import check_run, read_run, run
from demur.benchmark.runs import RunInfo
from demur.benchmark.schema import schema

PROVENANCE = Provenance("1.0.0", "0" * 64, "0.1.0")
SETTING = {"sampling": Sampling(max_new_tokens=8), "samples": 2, "provenance": PROVENANCE}


def prompts(count: int = 6) -> list[Prompt]:
    return [
        Prompt(
            f"p{i}/harmful/noisy",
            f"p{i}",
            "harmful",
            "noisy",
            "en",
            "h",
            "s",
            "history",
            f"text {i}",
            "public",
            "1",
            "c",
        )
        for i in range(count)
    ]


class Echo:
    """Answers with a hash of what it is asked; can be told to fail, wait or be interrupted at a given response."""

    def __init__(self, *, at: dict[int, object] | None = None, wait: float = 0.0, batch: int = 2) -> None:
        self.at, self.wait, self.batch = at or {}, wait, batch
        self.asked: list[tuple[str, int]] = []
        self.info = ModelInfo("echo", "1", "none", "echo", "dense")
        self.template_sha256 = None

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:  # noqa: ARG002
        backwards = list(reversed(requests))
        return [backwards[i : i + self.batch] for i in range(0, len(backwards), self.batch)]

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:
        for request in batch:
            for sample in request.samples:
                action = self.at.get(len(self.asked))
                self.asked.append((request.prompt.id, sample))
                time.sleep(self.wait)
                if isinstance(action, BaseException):
                    raise action
                if isinstance(action, signal.Signals):
                    os.kill(os.getpid(), action)
                if action == "error":
                    yield Response(request.prompt.id, sample, "", "error", "server said no")
                    continue
                text = hashlib.sha256(f"{request.prompt.text} {sample} {sampling.seed}".encode()).hexdigest()
                yield Response(request.prompt.id, sample, text, "stop", "", 5, 64)


def table(path: Path) -> bytes:
    return (path / "responses" / "responses.parquet").read_bytes()


def events(path: Path) -> list[str]:
    return [event["event"] for event in read_journal(path / "journal.jsonl")]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    run(Echo(), prompts(), out=tmp_path / "reference", **SETTING)
    return tmp_path / "reference"


def test_the_form_that_was_asked_is_recorded(tmp_path: Path) -> None:
    asked = [replace(prompt, form=f"forms:{number}") for number, prompt in enumerate(prompts())]
    run(Echo(), asked, out=tmp_path / "run", **SETTING)
    forms = read_run(tmp_path / "run").responses.groupby("prompt_id")["form"].unique()
    assert {prompt.id: [prompt.form] for prompt in asked} == {key: list(value) for key, value in forms.items()}


def test_a_run_is_whole_and_in_order(reference: Path) -> None:
    assert check_run(reference) == []
    read = read_run(reference)
    assert list(read.responses.columns) == list(RESPONSE_COLUMNS)
    assert list(read.responses["prompt_id"]) == [prompt.id for prompt in prompts() for _ in range(2)]
    assert list(read.responses["sample"]) == [0, 1] * 6
    assert read.responses["n_tokens"].tolist() == [64] * 12
    assert read.info.model == Echo().info
    assert read.info.sampling == SETTING["sampling"]
    assert read.info.prompt_ids == tuple(prompt.id for prompt in prompts())
    assert events(reference) == ["started", *["batch_answered"] * 3, "finished"]
    assert sorted(path.name for path in (reference / "responses").iterdir()) == ["responses.parquet"]
    answered = [event for event in read_journal(reference / "journal.jsonl") if event["event"] == "batch_answered"]
    assert [len(event["keys"]) for event in answered] == [4, 4, 4]
    assert all(event["latency_s"] >= 0 and event["started_at"] for event in answered)


def test_a_finished_run_asks_nothing(reference: Path) -> None:
    before = (reference / "journal.jsonl").read_bytes()
    model = Echo()
    seen: list[tuple[int, int]] = []
    result = run(model, prompts(), out=reference, progress=lambda *at: seen.append(at), **SETTING)
    assert (result.asked, result.responses, model.asked) == (0, 12, [])
    assert seen == [(12, 12)]
    assert (reference / "journal.jsonl").read_bytes() == before


def test_progress_counts_up(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(Echo(), prompts(), out=tmp_path / "r", progress=lambda *at: seen.append(at), **SETTING)
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_the_batch_in_flight(
    tmp_path: Path, reference: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a shell
    first = Echo(at={5: number})
    with pytest.raises(DemurError, match="interrupted; 8 of 12 responses are saved") as raised:
        run(first, prompts(), out=tmp_path / "r", **SETTING)
    assert "run the same command again" in str(raised.value)
    assert "Finishing the batch" in capsys.readouterr().err
    assert len(first.asked) == 8
    with pytest.raises(DemurError, match="not finished"):
        read_run(tmp_path / "r")
    assert len(check_run(tmp_path / "r")) == 1
    second = Echo()
    assert run(second, prompts(), out=tmp_path / "r", **SETTING).asked == 4
    assert not set(first.asked) & set(second.asked)
    assert table(tmp_path / "r") == table(reference)
    assert events(tmp_path / "r")[-4:] == ["interrupted", "resumed", "batch_answered", "finished"]
    assert signal.getsignal(signal.SIGINT) is before


def test_two_signals_drop_the_batch_in_flight(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(DemurError, match="interrupted; 4 of 12 responses are saved"):
        run(Echo(at={5: signal.SIGINT, 6: signal.SIGINT}), prompts(), out=tmp_path / "r", **SETTING)
    second = Echo()
    run(second, prompts(), out=tmp_path / "r", **SETTING)
    assert len(second.asked) == 8
    assert table(tmp_path / "r") == table(reference)


def test_a_fault_of_the_model_leaves_a_run_that_goes_on(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(DemurError, match="no memory"):
        run(Echo(at={9: DemurError("no memory")}), prompts(), out=tmp_path / "r", **SETTING)
    assert events(tmp_path / "r")[-1] == "interrupted"
    run(Echo(), prompts(), out=tmp_path / "r", **SETTING)
    assert table(tmp_path / "r") == table(reference)


def test_errors_are_kept_told_and_retried_alone(tmp_path: Path, reference: Path) -> None:
    result = run(Echo(at={1: "error", 7: "error"}), prompts(), out=tmp_path / "r", **SETTING)
    assert (result.errors, result.responses) == (2, 12)
    assert check_run(tmp_path / "r") == []
    assert (read_run(tmp_path / "r").responses["finish_reason"] == "error").sum() == 2
    assert events(tmp_path / "r").count("response_error") == 2
    again = Echo(at={0: "error"})
    assert run(again, prompts(), out=tmp_path / "r", **SETTING).errors == 1
    assert again.asked == [("p5/harmful/noisy", 1), ("p2/harmful/noisy", 1)]
    last = Echo()
    assert run(last, prompts(), out=tmp_path / "r", **SETTING).errors == 0
    assert len(last.asked) == 1
    assert table(tmp_path / "r") == table(reference)


@pytest.mark.parametrize("damage", [b"", b"PAR1 cut", None])
def test_a_broken_part_is_asked_again(tmp_path: Path, reference: Path, damage: bytes | None) -> None:
    with pytest.raises(DemurError):
        run(Echo(at={9: DemurError("stop")}), prompts(), out=tmp_path / "r", **SETTING)
    part = tmp_path / "r" / "responses" / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-20] if damage is None else damage)
    model = Echo()
    run(model, prompts(), out=tmp_path / "r", **SETTING)
    assert len(model.asked) == 8
    assert table(tmp_path / "r") == table(reference)


def test_a_part_of_another_batch_is_asked_again(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(DemurError):
        run(Echo(at={9: DemurError("stop")}), prompts(), out=tmp_path / "r", **SETTING)
    folder = tmp_path / "r" / "responses"
    (folder / "part-000000.parquet").replace(folder / "part-000002.parquet")
    run(Echo(), prompts(), out=tmp_path / "r", **SETTING)
    assert table(tmp_path / "r") == table(reference)


def test_a_batch_saved_but_not_told_is_recovered(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(DemurError):
        run(Echo(at={9: DemurError("stop")}), prompts(), out=tmp_path / "r", **SETTING)
    journal = tmp_path / "r" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:30])
    model = Echo()
    run(model, prompts(), out=tmp_path / "r", **SETTING)
    told = [event for event in read_journal(journal) if event["event"] == "batch_answered"]
    assert [(event["batch"], event["recovered"]) for event in told] == [(0, False), (1, True), (2, False)]
    assert told[1]["latency_s"] == json.loads(lines[2])["latency_s"]
    assert len(model.asked) == 4
    assert table(tmp_path / "r") == table(reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": Sampling(temperature=0.0, max_new_tokens=8)}, "sampling temperature: 0.7 then, 0.0 now"),
        ({"samples": 3}, "samples per prompt: 2 then, 3 now"),
        ({"provenance": replace(PROVENANCE, prompts_version="2.0.0")}, "prompt set: version 1.0.0 then, 2.0.0 now"),
        (
            {"provenance": replace(PROVENANCE, prompts_hash="1" * 64)},
            "000000000000 then, 6 with hash 111111111111",
        ),
        ({"model": "other"}, "model id: 'echo' then, 'other' now"),
        ({"batch": 3}, "cut in another way"),
        ({"prompts": 5}, "prompts: 6 with hash"),
    ],
)
def test_another_setting_is_refused(reference: Path, change: dict, message: str) -> None:
    before = table(reference)
    model = Echo(batch=change.pop("batch", 2))
    model.info = replace(model.info, id=change.pop("model", "echo"))
    with pytest.raises(DemurError, match="holds a run with other settings") as raised:
        run(model, prompts(change.pop("prompts", 6)), out=reference, **{**SETTING, **change})
    assert message in str(raised.value)
    assert table(reference) == before


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=-1.0),
        Sampling(temperature=float("nan")),
        Sampling(top_p=0.0),
        Sampling(top_p=1.5),
        Sampling(max_new_tokens=0),
    ],
)
def test_impossible_sampling_is_refused(tmp_path: Path, sampling: Sampling) -> None:
    with pytest.raises(DemurError, match="sampling"):
        run(Echo(), prompts(), out=tmp_path / "r", **{**SETTING, "sampling": sampling})
    assert not (tmp_path / "r" / "run.json").exists()


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DemurError, match="no prompts"):
        run(Echo(), [], out=tmp_path / "r", **SETTING)
    with pytest.raises(DemurError, match="given more than once"):
        run(Echo(), prompts(1) * 2, out=tmp_path / "r", **SETTING)
    with pytest.raises(DemurError, match="0 samples"):
        run(Echo(), prompts(), out=tmp_path / "r", **{**SETTING, "samples": 0})
    with pytest.raises(DemurError, match="gated and public"):
        run(Echo(), [prompts(2)[0], replace(prompts(2)[1], split="gated")], out=tmp_path / "r", **SETTING)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not touch")
    with pytest.raises(DemurError, match="not empty and not a run folder"):
        run(Echo(), prompts(), out=tmp_path / "full", **SETTING)
    with pytest.raises(DemurError, match="not a run folder"):
        read_run(tmp_path / "full")
    assert not (tmp_path / "r").exists()


def test_check_run_finds_what_is_wrong(reference: Path) -> None:
    path = reference / "responses" / "responses.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.slice(1), path)
    assert any("p0/harmful/noisy sample 0 is there 0 times" in fault for fault in check_run(reference))
    with pytest.raises(DemurError, match=r"rows are not those of run\.json"):
        read_run(reference)
    pq.write_table(whole.take([0, *range(12)]), path)
    assert any("sample 0 is there 2 times" in fault for fault in check_run(reference))
    pq.write_table(whole.take(list(reversed(range(12)))), path)
    assert any("not in the order" in fault for fault in check_run(reference))
    lists = pa.array([[sample] for sample in whole["sample"].to_pylist()])
    pq.write_table(whole.set_column(whole.column_names.index("sample"), "sample", lists), path)
    assert any("sample 0 is there 0 times" in fault for fault in check_run(reference))
    pq.write_table(whole, path, compression="none")
    assert any("not the file that the journal says" in fault for fault in check_run(reference))
    path.write_bytes(b"PAR1")
    with pytest.raises(DemurError, match="not a whole Parquet file"):
        check_run(reference)
    path.unlink()
    assert any("not finished" in fault for fault in check_run(reference))


def test_a_damaged_table_is_made_again(reference: Path) -> None:
    before = table(reference)
    (reference / "responses" / "responses.parquet").write_bytes(before[:-30])
    run(Echo(), prompts(), out=reference, **SETTING)
    assert table(reference) == before


def test_no_prompt_text_lies_in_the_folder(reference: Path) -> None:
    for path in reference.rglob("*"):
        assert path.is_dir() or b"text 3" not in path.read_bytes()


def test_records_and_schemas_are_the_same() -> None:
    response = schema("demur.benchmark", "response")
    assert list(response["properties"]) == [field.name for field in fields(Response)] == list(RESPONSE_COLUMNS)
    info = schema("demur.benchmark", "run")["properties"]
    assert [name for name in info if name != "format"] == [field.name for field in fields(RunInfo)]
    for name, record in (("model", ModelInfo), ("sampling", Sampling), ("provenance", Provenance)):
        assert list(info[name]["properties"]) == [field.name for field in fields(record)]


PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_running import Echo, SETTING, prompts
from demur.benchmark.running import run
run(Echo(wait=0.004), prompts(), out=Path(sys.argv[1]), **SETTING)
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    code = PROCESS.format(folder=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.PIPE)


def kill_until_done(out: Path, chance: random.Random, kills: int) -> None:
    for _ in range(kills):
        process = start(out)
        deadline = time.monotonic() + 20
        while not (out / "journal.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.06))
        process.kill()
        process.communicate()
    process = start(out)
    assert process.wait(timeout=60) == 0, process.communicate()[1].decode()
    process.communicate()


def assert_survived(out: Path, reference: Path) -> None:
    assert check_run(out) == []
    assert table(out) == table(reference)
    told = [tuple(key) for event in read_journal(out / "journal.jsonl") for key in event.get("keys", [])]
    assert len(told) == len(set(told)) == 12


def test_killed_at_any_instant_it_goes_on(tmp_path: Path, reference: Path) -> None:
    kill_until_done(tmp_path / "r", random.Random(1), kills=3)
    assert_survived(tmp_path / "r", reference)


def test_a_second_process_on_the_folder_is_refused(tmp_path: Path) -> None:
    from demur.benchmark.journal import Journal

    (tmp_path / "r").mkdir()
    with Journal(tmp_path / "r" / "journal.jsonl"), pytest.raises(DemurError, match="another process is working"):
        run(Echo(), prompts(), out=tmp_path / "r", **SETTING)
