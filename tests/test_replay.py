"""Responses from a file."""

import json
from pathlib import Path

import pandas as pd
import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model
from demur.benchmark.models.replay import ReplayModel
from demur.benchmark.models.thinking import split_thinking
from demur.benchmark.records import Request, Sampling
from demur.tests.invented import invented


def request(number: int, samples: int = 2) -> Request:
    return Request(invented(f"pair{number}", "hello"), tuple(range(samples)))


REQUESTS = [request(number) for number in range(3)]
ROWS = [
    {"prompt_id": each.prompt.id, "sample": sample, "text": f'Say "no", {each.prompt.pair_id},\nfor {sample}.'}
    for each in REQUESTS
    for sample in each.samples
]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


def answers(model: ReplayModel, requests: list[Request] = REQUESTS) -> list[tuple]:
    batches = model.plan(requests, Sampling())
    found = [each for batch in batches for each in model.respond(batch, Sampling())]
    return [(each.prompt_id, each.sample, each.text, each.finish_reason) for each in found]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("numbered", [False, True])
def test_reads_every_format(tmp_path: Path, name: str, numbered: bool) -> None:
    rows = [{k: v for k, v in row.items() if k != "sample"} for row in ROWS] if numbered else ROWS
    model = load_model(f"replay:{write(tmp_path / name, rows)}")
    assert answers(model) == [(row["prompt_id"], row["sample"], row["text"], "stop") for row in ROWS]
    assert (model.info.id, model.info.backend, model.info.architecture) == ("a", "replay", "undisclosed")
    assert model.info.revision.startswith("sha256:")


def test_finish_reason_error_and_thinking(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[0] |= {"finish_reason": "length"}
    rows[1] |= {"finish_reason": "error", "text": "", "error": "timeout"}
    rows[2] |= {"text": "<think>hm</think>\nNo."}
    model = ReplayModel(write(tmp_path / "a.jsonl", rows), model_id="maker/model")
    responses = [each for batch in model.plan(REQUESTS, Sampling()) for each in model.respond(batch, Sampling())]
    assert responses[0].finish_reason == "length"
    assert responses[1].error == "timeout"
    assert responses[2].text == "No."
    assert model.info.id == "maker/model"


def test_missing_duplicate_and_unknown_are_all_told_with_lines(tmp_path: Path) -> None:
    rows = [*ROWS[:-1], ROWS[0], {"prompt_id": "nobody", "sample": 0, "text": ""}, {**ROWS[0], "sample": 7}]
    model = ReplayModel(write(tmp_path / "a.jsonl", rows))
    with pytest.raises(DemurError) as raised:
        model.plan(REQUESTS, Sampling())
    text = str(raised.value)
    assert "4 problems" in text
    assert "missing: pair2/benign/canonical sample 1" in text
    assert "line 6: pair0/benign/canonical sample 0 is there already (line 1)" in text
    assert "line 7: unknown prompt id 'nobody'" in text
    assert "line 8: pair0/benign/canonical sample 7 was not asked for" in text


def test_lines_of_csv_count_line_breaks_in_texts(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt_id": "nobody", "sample": 0, "text": "x"}]
    model = ReplayModel(write(tmp_path / "a.csv", rows))
    with pytest.raises(DemurError, match="line 14: unknown prompt id"):
        model.plan(REQUESTS, Sampling())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "not a file of responses"),
        ("a.jsonl", "", "no responses in it"),
        ("a.jsonl", '{"prompt_id": "p", "text": "t"}\n{oops\n', "a.jsonl:2: not valid JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"prompt_id": "p", "text": null}\n', "line 1: text is not a string"),
        ("a.jsonl", '{"text": "t"}\n', "line 1: no prompt_id"),
        ("a.jsonl", '{"prompt_id": "p", "text": "t", "sample": -1}\n', "line 1: sample -1"),
        ("a.jsonl", '{"prompt_id": "p", "text": "t", "sample": 0.5}\n', "line 1: sample 0.5"),
        ("a.jsonl", '{"prompt_id": "p", "text": "t", "finish_reason": "end"}\n', "finish_reason 'end' is none of"),
        ("a.jsonl", '{"prompt_id": "p", "text": "t", "error": "e"}\n', "an error, but finish_reason"),
        ("a.csv", "prompt_id,answer\np,t\n", "no column text"),
        ("a.csv", "prompt_id,text\np,t,u\n", "a.csv:2: not as many fields"),
        ("a.csv", 'prompt_id,text\np,"t\n', "a.csv:2: not valid CSV"),
        ("a.parquet", "", "the file is empty"),
        ("a.parquet", "PAR1 cut", "not a whole Parquet file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DemurError) as raised:
        ReplayModel(tmp_path / name)
    assert message in str(raised.value)


def test_not_utf8_and_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt_id": "\xff"}\n')
    with pytest.raises(DemurError, match="not UTF-8 at byte"):
        ReplayModel(tmp_path / "a.jsonl")
    with pytest.raises(DemurError, match="cannot read"):
        ReplayModel(tmp_path / "b.jsonl")


@pytest.mark.parametrize("spec", ["nothing:x", "replay:", "openia:gpt"])
def test_unknown_spec_lists_what_exists(spec: str) -> None:
    with pytest.raises(DemurError, match="unknown model") as raised:
        load_model(spec)
    assert "replay:" in str(raised.value)
    assert "demo:" in str(raised.value)


def test_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemurError, match="no option dtype"):
        load_model(f"replay:{write(tmp_path / 'a.jsonl', ROWS)}", dtype="float32", model_id=None)


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("No.", False, ("", "No.")),
        ("  kept as it is ", False, ("", "  kept as it is ")),
        ("<think>\nhm\n</think>\n\nNo.", False, ("hm", "No.")),
        ("hm</think>No.", True, ("hm", "No.")),
        ("<think>for ever", False, ("for ever", "")),
        ("for ever", True, ("for ever", "")),
        ("<think>a</think>b</think>c", False, ("a</think>b", "c")),
        ("what is <think> for?", False, ("", "what is <think> for?")),
    ],
)
def test_split_thinking(text: str, opened: bool, expected: tuple[str, str]) -> None:
    assert split_thinking(text, opened=opened) == expected
