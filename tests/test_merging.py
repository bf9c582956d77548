"""Shards: deterministic parts, and one run made of them that equals the run in one piece."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.benchmark.errors import DemurError
from demur.benchmark.journal import read_journal
from demur.benchmark.merging import merge, parse_shard, shard_of
from demur.benchmark.records import Sampling
from demur.benchmark.running import check_run, read_run, run
from demur.tests.witness import PROVENANCE, SAMPLES, SAMPLING, Witness, prompts

SETTING = {"sampling": SAMPLING, "samples": SAMPLES, "provenance": PROVENANCE}


def ask(place: Path, shard: tuple[int, int] | None = None, *, faults: float = 0.0, **changes: object) -> Path:
    out = place / ("whole" if shard is None else f"shard-{shard[0]}")
    run(Witness(place / "asked.txt", faults), prompts(), out=out, shard=shard, **{**SETTING, **changes})
    return out


def table(out: Path) -> bytes:
    return (out / "responses" / "responses.parquet").read_bytes()


@pytest.mark.parametrize("count", [1, 3, 7, 20])
def test_merged_shards_are_the_run_in_one_piece(tmp_path: Path, count: int) -> None:
    whole = ask(tmp_path)
    shards = [ask(tmp_path, (index, count)) for index in range(1, count + 1)]
    assert merge(shards[::-1], tmp_path / "merged") == len(prompts()) * SAMPLES
    assert check_run(tmp_path / "merged") == []
    assert table(tmp_path / "merged") == table(whole)
    info, expected = read_run(tmp_path / "merged").info, read_run(whole).info
    kept = {"plan_sha256": "", "created_at": ""}
    assert replace(info, **kept) == replace(expected, **kept)
    events = [event["event"] for event in read_journal(tmp_path / "merged" / "journal.jsonl")]
    assert events == ["started", *["merged"] * count, "finished"]


@given(st.integers(1, 20))
def test_every_prompt_is_in_one_shard(count: int) -> None:
    parts = [shard_of(prompts(), (index, count)) for index in range(1, count + 1)]
    assert sorted(prompt.id for part in parts for prompt in part) == sorted(prompt.id for prompt in prompts())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_goes_on_as_the_same_shard_alone(tmp_path: Path) -> None:
    folder = ask(tmp_path, (1, 2))
    with pytest.raises(DemurError, match="shard: 1/2 then, 2/2 now"):
        run(Witness(tmp_path / "asked.txt", 0.0), prompts(), out=folder, shard=(2, 2), **SETTING)
    with pytest.raises(DemurError, match="shard: 1/2 then, None now"):
        run(Witness(tmp_path / "asked.txt", 0.0), prompts(), out=folder, **SETTING)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    first, second = ask(tmp_path, (1, 2)), ask(tmp_path, (2, 2), sampling=Sampling(temperature=0.0))
    out = tmp_path / "merged"
    with pytest.raises(DemurError, match=r"shard 2/2: missing"):
        merge([first], out)
    with pytest.raises(DemurError, match="more than once"):
        merge([first, first], out)
    with pytest.raises(DemurError, match="sampling temperature"):
        merge([first, second], out)
    with pytest.raises(DemurError, match="another division"):
        merge([first, ask(tmp_path, (3, 3))], out)
    with pytest.raises(DemurError, match="not shards of a run"):
        merge([first, ask(tmp_path)], out)
    with pytest.raises(DemurError, match="nothing to merge"):
        merge([], out)
    with pytest.raises(DemurError, match="is there already"):
        merge([first], first)
    assert not out.exists()


def test_an_unfinished_shard_is_refused(tmp_path: Path) -> None:
    shards = [ask(tmp_path, (index, 2)) for index in (1, 2)]
    (shards[1] / "responses" / "responses.parquet").unlink()
    with pytest.raises(DemurError, match="not finished"):
        merge(shards, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_errors_of_a_shard_stay_errors(tmp_path: Path) -> None:
    shards = [ask(tmp_path, (1, 2), faults=1.0), ask(tmp_path, (2, 2))]
    merge(shards, tmp_path / "merged")
    assert (read_run(tmp_path / "merged").responses["finish_reason"] == "error").sum() == 20
    assert read_journal(tmp_path / "merged" / "journal.jsonl")[-1]["errors"] == 20


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1 / 2"])
def test_shards_are_written_i_of_n(text: str) -> None:
    with pytest.raises(DemurError, match="is not i/n"):
        parse_shard(text)


def test_more_shards_than_prompts(tmp_path: Path) -> None:
    assert parse_shard("2/4") == (2, 4)
    with pytest.raises(DemurError, match="leave some empty"):
        ask(tmp_path, (1, 21))
