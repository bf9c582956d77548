"""OpenAI-compatible servers that break in every way: what is tried again, what is told, and what is never told."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.models import server
from demur.benchmark.models.openai import PATIENCE, OpenAIModel
from demur.benchmark.running import check_run, read_run, run
from demur.tests.fault_server import Act, Script, always, complete, completion, refuse, serving
from demur.tests.openai_asking import COLD, KEY, PROVENANCE, ask, asking, one, prompt, quick


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


FAULTS = {
    **{str(status): refuse(status) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)},
    "drop": Act(fault="drop"),
    "cut": replace(completion("half an answer"), fault="cut"),
    "not json": Act("<html>busy</html>"),
    "hang": Act(fault="hang"),
    "trickle": replace(completion("slow" * 20), fault="trickle"),
    "error inside": Act({"error": {"code": 502, "message": "upstream"}}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_is_tried_again(name: str) -> None:
    found, _model, at = ask(
        lambda body, before: complete(body) if before else FAULTS[name],
        asking(),
        timeout=1.0 if name in {"hang", "trickle"} else 20.0,
    )
    assert found[0, 0].finish_reason == "stop"
    assert len(at.asked) == 2


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_fault_is_an_error_that_says_what(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ATTEMPTS", 3)
    monkeypatch.setattr(server, "FIRST_CONTACT_ATTEMPTS", 3)
    found, _model, at = ask(always(FAULTS[name]), asking(), timeout=0.3 if name in {"hang", "trickle"} else 20.0)
    assert (found[0, 0].finish_reason, found[0, 0].text) == ("error", "")
    assert found[0, 0].error
    assert len(at.asked) == 3


def test_what_no_other_attempt_would_change_is_tried_once() -> None:
    found, _model, at = ask(always(refuse(422, {"message": "too long"})), asking())
    assert found[0, 0].error == "HTTP 422: too long"
    assert len(at.asked) == 1


def test_the_server_says_when_to_come_back() -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        return complete(body) if before or len(at_start) else (at_start.append(1), refuse(429, retry_after_ms="400"))[1]

    at_start: list[int] = []
    _found, _model, at = ask(script, asking(3), concurrency=1)
    # All wait, not only the request that was told to.
    assert len(at.asked) == 4
    assert at.at[1] - at.at[0] >= 0.4


def test_a_wait_of_hours_is_an_error_at_once() -> None:
    begun = time.monotonic()
    assert "asks to wait 7200 s" in one(refuse(429, retry_after="7200")).error
    assert time.monotonic() - begun < 600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert server.retry_after(headers) == seconds


def test_retry_after_takes_a_date_to_come() -> None:
    assert server.retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 10**8  # type: ignore[operator]


SAYS_TOO_MUCH = [
    lambda text: {"message": f"Bad request: {text!r}"},
    lambda text: {"message": "Failed on: " + text[5:45].upper()},
    lambda _: {"message": f"Incorrect API key provided: {KEY}"},
    lambda _: {"message": f"Incorrect API key provided: {KEY[:12]}***"},
]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
@pytest.mark.parametrize("says", SAYS_TOO_MUCH)
def test_neither_key_nor_prompt_is_logged_or_saved(
    *,
    status: int,
    says: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
    capsys: Any,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    caplog.set_level("DEBUG")
    with serving(lambda body, _: refuse(status, says(body["messages"][0]["content"]))) as found:
        model = OpenAIModel("m", base_url=found.url)
        try:
            run(model, [prompt(0)], sampling=COLD, samples=1, out=tmp_path / "r", provenance=PROVENANCE)
            fault = "HTTP"
        except DemurError as raised:
            fault = str(raised)
    assert "HTTP" in fault
    written = b"".join(path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file())
    said = f"{fault} {caplog.text} {capsys.readouterr()} {model!r} {model.info}"
    for secret in (KEY, KEY[:12], prompt(0).text, prompt(0).text[5:45]):
        assert secret.lower() not in said.lower()
        assert secret.lower().encode() not in written.lower()


def test_details_of_a_field_error_are_told_without_the_input() -> None:
    detail = [{"loc": ["body", "temperature"], "msg": "Input should be less than 2", "input": prompt(0).text}]
    assert one(Act({"detail": detail}, 422)).error == "HTTP 422: Input should be less than 2"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (refuse(401), "OPENAI_API_KEY is not set"),
        (refuse(403), "OPENAI_API_KEY is not set"),
        (refuse(404), "check the model's name"),
        (refuse(405), "no OpenAI-compatible server"),
        (refuse(301, location="/elsewhere"), "no OpenAI-compatible server"),
        (refuse(402), "top up"),
        (refuse(429, {"code": "insufficient_quota", "message": "no money"}), "top up"),
    ],
)
def test_what_the_user_must_mend_stops_the_run(act: Act, message: str) -> None:
    with serving(always(act)) as found, pytest.raises(DemurError, match=message):
        list(OpenAIModel("m", base_url=found.url, concurrency=1).respond(asking(50), COLD))
    assert len(found.asked) <= 2


def test_a_dead_server_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    with serving(always(refuse(503))) as found:
        model = OpenAIModel("m", base_url=found.url)
        with pytest.raises(DemurError, match=rf"the last {PATIENCE} requests failed.*HTTP 503: not now"):
            list(model.respond(asking(100), COLD))
    with pytest.raises(DemurError, match="no connection"):
        list(OpenAIModel("m", base_url=found.url).respond(asking(3), COLD))


def finish(script: Script, out: Path, count: int, samples: int, tries: int = 12) -> list[dict[str, Any]]:
    """Start a run again and again until it is whole and without errors; what the server was asked."""
    with serving(script) as found:
        for _ in range(tries):
            model = OpenAIModel("m", base_url=found.url)
            try:
                result = run(
                    model,
                    [prompt(number) for number in range(count)],
                    sampling=COLD,
                    samples=samples,
                    out=out,
                    provenance=PROVENANCE,
                )
            except DemurError:
                continue
            if not result.errors:
                return found.asked
    raise AssertionError("never whole")


def test_a_storm_of_faults_ends_in_the_table_of_a_calm_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ATTEMPTS", 3)
    chance = random.Random(3)
    lasting = [*(act for name, act in FAULTS.items() if name not in {"hang", "trickle"}), refuse(422), Act({})]

    def storm(body: dict[str, Any], before: int) -> Act:
        return chance.choice(lasting) if chance.random() < 0.5 else complete(body)

    finish(complete, tmp_path / "calm", 40, 2)
    finish(storm, tmp_path / "storm", 40, 2)
    assert check_run(tmp_path / "storm") == []
    table = "responses/responses.parquet"
    assert (tmp_path / "storm" / table).read_bytes() == (tmp_path / "calm" / table).read_bytes()
    answered = Counter(
        tuple(key)
        for line in (tmp_path / "storm" / "journal.jsonl").read_text().splitlines()
        for key in json.loads(line).get("keys", [])
    )
    failed = Counter(
        (event["prompt_id"], event["sample"])
        for event in map(json.loads, (tmp_path / "storm" / "journal.jsonl").read_text().splitlines())
        if event["event"] == "response_error"
    )
    # Each one is told once as answered, and once more for every error.
    assert all(answered[key] == 1 + failed[key] for key in answered)
    assert len(answered) == 80


def test_what_was_answered_is_kept_though_its_batch_is_dropped(tmp_path: Path) -> None:
    """Two signals in the middle of a batch: what had come is not asked again."""
    asked: list[str] = []

    def script(body: dict[str, Any], before: int) -> Act:
        asked.append(body["messages"][0]["content"])
        return complete(body)

    everyone = [prompt(number) for number in range(30)]
    setting = {"sampling": COLD, "samples": 1, "out": tmp_path / "r", "provenance": PROVENANCE}
    seen = 0

    def progress(there: int, total: int) -> None:
        nonlocal seen
        seen = there
        if there in (11, 12):
            signal.raise_signal(signal.SIGINT)

    with serving(script) as found:
        with pytest.raises(DemurError, match=r"interrupted; 1\d of 30 responses are saved"):
            run(OpenAIModel("m", base_url=found.url, concurrency=2), everyone, progress=progress, **setting)
        first = seen
        before = len(asked)
        assert 12 <= first < 30
        result = run(OpenAIModel("m", base_url=found.url, concurrency=2), everyone, **setting)
    assert result.asked == 30 - first
    # What was in flight at the signal, and had not come, is asked again: two requests at most.
    assert len(asked) == before + 30 - first <= 30 + 3
    assert check_run(tmp_path / "r") == []
    assert sorted(path.name for path in (tmp_path / "r" / "responses").iterdir()) == ["responses.parquet"]
    assert read_run(tmp_path / "r").info.model.backend == "openai"
