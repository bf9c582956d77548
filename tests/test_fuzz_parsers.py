"""Every parser of words and of servers' answers against anything: a valid result or a DemurError, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demur.benchmark import recipients
from demur.benchmark.merging import parse_shard
from demur.benchmark.models import chat
from demur.benchmark.models.server import retry_after
from demur.benchmark.models.thinking import split_thinking
from demur.benchmark.stress.settings import parse_experts
from demur.scorers import judge, rubric
from demur.scorers.guard_entries import guards, parse_finding
from demur.scorers.labelled import parse_map
from demur.tests.bounded import tried

TEXTS = st.text(max_size=200) | st.sampled_from(
    [
        "",
        "1/0",
        "0/1",
        "1/2",
        "²/³",
        "a=b",
        "=refused",
        "x=refused,=",
        ",",
        "A@http",
        "@http://x",
        "1:2",
        "9" * 5000,
        "\x00",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ("choices", "message", "content", "error", "code", "usage", "detail", "msg",
             "type", "text", "finish_reason", "innererror", "metadata", "refusal",
             "completion_tokens", "completion_tokens_details", "reasoning_tokens")
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip
PARSERS: dict[str, Callable[[str], Any]] = {
    "map": lambda text: parse_map([text]),
    "experts": lambda text: parse_experts([text]),
    "members": judge.parse_members,
    "public key": recipients.public_key,
    "thinking": split_thinking,
    "judgement": lambda text: rubric.parse_judgement(text, "0" * 16, rubric.load_rubric()),
    "guards": lambda text: [parse_finding(guard, text) for guard in guards().values() if guard.pattern],
    "retry-after": lambda text: retry_after({"retry-after": text, "retry-after-ms": text}),
    "shard": parse_shard,
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_parsers_of_words_take_anything(name: str, text: str) -> None:
    tried(PARSERS[name], text)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_answers_of_servers_are_read_or_named(body: Any) -> None:
    assert isinstance(chat.complaint(body, prompt="a prompt", key="key"), str)
    assert isinstance(chat.filtered(body), bool)
    assert isinstance(chat.error_code(body), str)
    try:
        given_answers = chat.answers(body)
    except chat.MalformedError:
        return
    for answer in given_answers:
        assert answer.text.encode("utf-8") is not None
