"""Asking OpenAI-compatible servers: what is asked, how, and what is made of the answer."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from demur.benchmark import models
from demur.benchmark.errors import DemurError
from demur.benchmark.models import load_model
from demur.benchmark.models.openai import OpenAIModel
from demur.benchmark.records import Response, Sampling
from demur.tests.fault_server import Act, always, complete, completion, refuse, serving, text_of
from demur.tests.openai_asking import COLD, KEY, WARM, ask, asking, one, prompt, quick


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


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
    missing = replace(models.BACKENDS["openai"], needs=("no_such_package", "openai"))
    monkeypatch.setitem(models.BACKENDS, "openai", missing)
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
