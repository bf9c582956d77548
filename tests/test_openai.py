"""Asking OpenAI-compatible servers: a server on loopback that breaks in every way, and a real one."""

import asyncio
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

from demur.benchmark import models
from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model, server
from demur.benchmark.models.openai import PATIENCE, OpenAIModel
from demur.benchmark.records import Prompt, Provenance, Request, Response, Sampling
from demur.benchmark.running import check_run, read_run, run
from demur.tests.fault_server import Act, Script, always, complete, completion, refuse, serving, text_of
from demur.tests.invented import invented

KEY = "sk-demur-not-a-real-key-1234567890"
WARM, COLD = Sampling(temperature=0.7, max_new_tokens=48), Sampling(temperature=0.0, max_new_tokens=48)
PROVENANCE = Provenance("1.0.0", "0" * 64, "0.1.0")


def prompt(number: int) -> Prompt:
    return invented(f"p{number}", f"What colour is the {number}th house in the street by the river?")


def asking(count: int = 1, samples: int = 1) -> list[Request]:
    return [Request(prompt(number), tuple(range(samples))) for number in range(count)]


def ask(script: Script, requests: list[Request], sampling: Sampling = COLD, **options: Any) -> Any:
    """The responses by (prompt number, sample), the model, and the server."""
    with serving(script) as found:
        model = OpenAIModel("m", base_url=found.url, **options)
        responses = list(model.respond(requests, sampling))
    keys = [(response.prompt_id, response.sample) for response in responses]
    assert Counter(keys) == Counter((each.prompt.id, sample) for each in requests for sample in each.samples)
    return {(int(each.prompt_id[1:].split("/")[0]), each.sample): each for each in responses}, model, found


def one(act: Act, sampling: Sampling = COLD, **options: Any) -> Response:
    return ask(always(act), asking(), sampling, **options)[0][0, 0]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BACKOFF_S", 0.005)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_asked_and_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found, model, at = ask(complete, asking(2), replace(COLD, top_p=0.9))
    assert found[0, 0] == Response(prompt(0).id, 0, found[0, 0].text, "stop", "", 7, 12, 0)
    assert {response.n_tokens for response in found.values()} == {12}
    assert {header["authorization"] for header in at.headers} == {f"Bearer {KEY}"}
    first = next(body for body in at.asked if body["messages"][0]["content"] == prompt(0).text)
    seed = first.pop("seed")
    assert found[0, 0].text == text_of({**first, "seed": seed})
    assert 0 <= seed < 2**31
    assert first == {
        "model": "m",
        "messages": [{"role": "user", "content": prompt(0).text}],
        "temperature": 0.0,
        "top_p": 0.9,
        "max_tokens": 48,
    }
    assert (model.info.id, model.info.backend, model.template_sha256) == ("m", "openai", None)


def test_no_key_is_sent_where_none_is_set() -> None:
    _found, _model, at = ask(complete, asking())
    assert "authorization" not in at.headers[0]


def test_several_samples_in_one_request_where_the_server_gives_them() -> None:
    found, _model, at = ask(complete, asking(3, 4), WARM)
    assert [body["n"] for body in at.asked] == [4, 4, 4]
    assert not any("seed" in body for body in at.asked)
    assert len({response.text for response in found.values()}) == 12
    # The server counts the tokens of all choices together.
    assert {response.n_tokens for response in found.values()} == {None}


@pytest.mark.parametrize("how", ["one choice", "400", "422"])
def test_a_server_without_several_samples_is_asked_singly(how: str, caplog: pytest.LogCaptureFixture) -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        if body.get("n", 1) > 1 and how != "one choice":
            return refuse(int(how), {"message": "n must be 1"})
        return completion(text_of(body))

    found, model, at = ask(script, asking(1, 3), WARM)
    singles = [body for body in at.asked if "n" not in body]
    assert len(singles) == (2 if how == "one choice" else 3)
    assert len({body["seed"] for body in singles}) == len(singles)
    assert {response.finish_reason for response in found.values()} == {"stop"}
    assert "one by one" in caplog.text
    with serving(script) as again:
        model._server._url = f"{again.url}/chat/completions"
        list(model.respond(asking(2, 3), WARM))
    assert not any("n" in body for body in again.asked)


def test_a_bad_request_does_not_put_the_server_in_doubt(caplog: pytest.LogCaptureFixture) -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        return (
            refuse(400, {"message": "too long"}) if prompt(0).text == body["messages"][0]["content"] else complete(body)
        )

    found, _model, at = ask(script, asking(5, 2), WARM, concurrency=1)
    assert {found[0, sample].error for sample in (0, 1)} == {"HTTP 400: too long"}
    assert sum("n" in body for body in at.asked) == 5
    assert "one by one" not in caplog.text


def test_greedy_samples_are_asked_singly_with_the_same_seeds_every_time() -> None:
    _found, _model, first = ask(complete, asking(2, 3))
    _found, _model, second = ask(complete, asking(2, 3))
    assert len({body["seed"] for body in first.asked}) == 6
    assert sorted(body["seed"] for body in first.asked) == sorted(body["seed"] for body in second.asked)
    _found, _model, third = ask(complete, asking(2, 3), replace(COLD, seed=1))
    assert not {body["seed"] for body in first.asked} & {body["seed"] for body in third.asked}


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


AZURE = {
    "message": "The response was filtered due to the prompt triggering a content management policy.",
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
}
FILTERS = {
    "finish reason": completion("", reason="content_filter"),
    "finish reason with a cause": completion("", reason="content_filter: SAFETY"),
    "Azure": refuse(400, AZURE),
    "Azure, inner code alone": refuse(400, {**AZURE, "code": None}),
    "policy": refuse(400, {"code": "content_policy_violation", "message": "no"}),
    "DashScope": refuse(400, {"code": "data_inspection_failed", "message": "no"}),
    "OpenRouter": refuse(
        403, {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "y"}}
    ),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sampling", [WARM, COLD])
def test_a_content_filter_is_no_error_and_no_answer(name: str, sampling: Sampling) -> None:
    found, _model, at = ask(always(FILTERS[name]), asking(1, 2), sampling)
    assert {response.finish_reason for response in found.values()} == {"content_filter"}
    assert {response.error for response in found.values()} == {""}
    assert len(at.asked) <= 2


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("error", "error"),
        (None, "error"),
        ("surprise", "error"),
    ],
)
def test_finish_reasons(reason: str | None, expected: str) -> None:
    assert one(completion("x", reason=reason)).finish_reason == expected


THOUGHT = {"prompt_tokens": 7, "completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 20}}
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("act", "tokens"),
    [
        (completion("Yes.", reasoning_content="hm", usage=THOUGHT), (10, 20)),
        (completion("\n\nYes.", reasoning="hm", usage=THOUGHT), (10, 20)),
        (completion("<think>hm</think>\n\nYes.", usage=THOUGHT), (10, 20)),
        (completion("hm</think>Yes."), (None, 0)),
        (completion("Yes.", reasoning_content="hm"), (None, 0)),
        (completion(PARTS, usage=THOUGHT), (10, 20)),  # type: ignore[arg-type]
        (completion("Yes.", usage={}), (None, 0)),
        (completion("Yes.", usage={"completion_tokens": "12", "prompt_tokens": -1}), (None, 0)),
        (completion("Yes.", usage={"completion_tokens": 2**40}), (None, 0)),
        (completion(None, refusal="Yes."), (12, 0)),  # type: ignore[arg-type]
    ],
)
def test_the_answer_without_the_thinking(act: Act, tokens: tuple[int | None, int]) -> None:
    response = one(act)
    assert (response.text, response.finish_reason) == ("Yes.", "stop")
    assert (response.n_tokens, response.n_thinking_tokens) == tokens


def test_thinking_that_never_ends_is_a_truncated_answer(caplog: pytest.LogCaptureFixture) -> None:
    response = one(completion("<think>and so on", reason="length"))
    assert (response.text, response.finish_reason) == ("", "length")
    assert "--thinking-tokens" in caplog.text
    _found, _model, at = ask(complete, asking(), thinking_tokens=1000)
    assert at.asked[0]["max_tokens"] == 1048


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        7,
        {"choices": []},
        {"choices": [{}]},
        {"choices": ["x"]},
        {"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]},
        {"choices": "x"},
    ],
)
def test_an_answer_that_is_none_is_an_error(body: object) -> None:
    assert "the server's answer" in one(Act(body)).error


def test_lone_surrogates_do_not_reach_the_table() -> None:
    assert one(Act(json.dumps(completion("a\ud800b").body))).text == "a?b"


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


def test_requests_in_flight_are_bounded() -> None:
    _found, _model, at = ask(lambda body, _: replace(complete(body), wait=0.05), asking(24), concurrency=5)
    assert at.most_in_flight == 5
    _found, _model, at = ask(lambda body, _: replace(complete(body), wait=0.01), asking(6), concurrency=1)
    assert at.most_in_flight == 1


def test_requests_keep_their_pace() -> None:
    _found, _model, at = ask(complete, asking(5), rpm=600)
    # Four gaps of 0.1 s; the server may see the first request late.
    assert at.at[-1] - at.at[0] >= 0.3


@pytest.mark.parametrize(
    ("refused", "message", "said"),
    [
        ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", ""),
        ("seed", "Extra inputs are not permitted: seed", "takes no seed"),
    ],
)
def test_a_parameter_that_a_server_does_not_know(refused: str, message: str, said: str, caplog: Any) -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        return refuse(400, {"message": message}) if refused in body else complete(body)

    found, _model, at = ask(script, asking(4), concurrency=1)
    assert {response.finish_reason for response in found.values()} == {"stop"}
    assert sum(refused in body for body in at.asked) == 1
    assert said in caplog.text


@pytest.mark.parametrize(
    "address", ["", "localhost:8000", "ftp://x/v1", "http://", "http://u:p@x/v1", "http://x/v1?key=y", "http://x:y/v1"]
)
def test_addresses(address: str) -> None:
    with pytest.raises(DemurError) as raised:
        OpenAIModel("m", base_url=address)
    assert "u:p" not in str(raised.value)


def test_the_address_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1/")
    model = load_model("openai:maker/model:tag", concurrency=3)
    assert isinstance(model, OpenAIModel)
    assert (model.address, model.info.id) == ("http://localhost:8000/v1", "maker/model:tag")
    with pytest.raises(DemurError, match="no option batch_rows"):
        load_model("openai:m", batch_rows=3)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"rpm": 0}, {"timeout": 0}, {"thinking_tokens": -1}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(DemurError, match="above 0"):
        OpenAIModel("m", base_url="http://localhost:1/v1", **options)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.NEEDS, "openai", ("no_such_package", "openai"))
    with pytest.raises(DemurError, match=r"no_such_package.*\n.*demur\[openai\]"):
        load_model("openai:m", base_url="http://localhost:1/v1")


def test_the_plan_does_not_depend_on_the_options() -> None:
    plans = [
        OpenAIModel("m", base_url="http://localhost:1/v1", concurrency=number).plan(asking(700, 3), WARM)
        for number in (1, 64)
    ]
    assert plans[0] == plans[1]
    assert len(plans[0]) > 5
    assert [request for batch in plans[0] for request in batch] == asking(700, 3)


@pytest.mark.parametrize(
    ("sampling", "heeds", "doubt"), [(WARM, False, True), (WARM, True, False), (COLD, False, False)]
)
def test_a_server_that_leaves_the_temperature_aside(
    sampling: Sampling, heeds: bool, doubt: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def script(body: dict[str, Any], _before: int) -> Act:
        return complete(body) if heeds else completion(*["the same"] * body.get("n", 1))

    ask(script, asking(25, 2), sampling)
    assert ("heed the temperature" in caplog.text) == doubt


def test_it_works_where_an_event_loop_runs_already() -> None:
    async def notebook() -> Any:
        return ask(complete, asking(3))[0]

    assert len(asyncio.run(notebook())) == 3


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
