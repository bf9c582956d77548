"""Reading what an OpenAI-compatible server answers, in the many ways that such servers write it.

The format: https://platform.openai.com/docs/api-reference/chat. Beyond it, this module knows how servers tell of
reasoning (``reasoning_content``: DeepSeek, SGLang, llama.cpp; ``reasoning``: vLLM, OpenRouter, Ollama; parts of type
``thinking``: Mistral; ``<think>`` tags in the text) and of content filters (Azure, DashScope, OpenRouter).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..masking import repeats, repeats_key
from ..records import FinishReason
from .thinking import split_thinking

__all__ = ["Answer", "MalformedError", "answers", "complaint", "error_code", "filtered"]

STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"})
LENGTHS = frozenset({"length", "max_tokens", "model_length"})
FILTERS = frozenset({"content_filter", "safety", "sensitive", "prohibited_content", "blocklist", "recitation"})
FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "data_inspection_failed", "invalid_prompt", "moderation_blocked"}
)
LARGEST_COUNT = 2**31 - 1
WINDOW = 20
WITHHELD = "(the server's message repeats what was sent and is left out)"


class MalformedError(ValueError):
    """The body is no chat completion."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a completion; the fields are those of :class:`..records.Response`."""

    text: str
    finish_reason: FinishReason
    error: str = ""
    n_prompt_tokens: int | None = None
    n_tokens: int | None = None
    n_thinking_tokens: int = 0


def answers(body: object) -> list[Answer]:
    """The choices of a chat completion.

    Token counts are those of the server. It counts all choices together, so with several choices they are not known;
    and where it does not count the thinking apart, the answer's length is not known and that of the thinking stays 0.

    Raises:
        MalformedError: it is no chat completion, or one without choices.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(choices, list) or not choices:
        raise MalformedError("the server's answer is no chat completion")
    usage = body.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    return [_answer(choice, counts, alone=len(choices) == 1) for choice in choices]


def _answer(choice: object, usage: Mapping[str, Any], *, alone: bool) -> Answer:
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise MalformedError("the server's answer holds a choice without a message")
    reason, error = _reason(choice)
    n_prompt = _count(usage.get("prompt_tokens"))
    if error:
        return Answer("", "error", error, n_prompt)
    thinking, text = _texts(message)
    details = usage.get("completion_tokens_details")
    thought = _count(details.get("reasoning_tokens")) if isinstance(details, Mapping) else None
    whole = _count(usage.get("completion_tokens"))
    if not alone or whole is None or (thinking and not thought) or (thought or 0) > whole:
        return Answer(text, reason, "", n_prompt)
    return Answer(text, reason, "", n_prompt, whole - (thought or 0), thought or 0)


def _reason(choice: Mapping[str, Any]) -> tuple[FinishReason, str]:
    """The finish reason, and what went wrong where it is an error."""
    said = choice.get("finish_reason")
    name = said.lower().partition(":")[0].strip() if isinstance(said, str) else ""
    if choice.get("error") or name == "error":
        return "error", "the server broke the answer off with an error of its own"
    if name in STOPS:
        return "stop", ""
    if name in LENGTHS:
        return "length", ""
    if name in FILTERS:
        return "content_filter", ""
    return "error", f"unknown finish reason {name[:40]!r}" if name else "the server gave no finish reason"


def _texts(message: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the model thought, and its answer."""
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part for part in content if isinstance(part, Mapping)]
        aside = any(part.get("type") in {"thinking", "reasoning"} for part in parts)
        content = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    else:
        aside = bool(message.get("reasoning_content") or message.get("reasoning"))
    refusal = message.get("refusal")
    if not content and isinstance(refusal, str):
        # The model's own words: some servers put a refusal into a field of its own.
        content = refusal
    if content is not None and not isinstance(content, str):
        raise MalformedError("the server's answer holds a message that is no text")
    thinking, text = split_thinking(_clean(content or ""))
    return aside or bool(thinking), text.strip() if aside else text


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= LARGEST_COUNT else None  # type: ignore[operator, return-value]


def _error(body: object) -> Mapping[str, Any]:
    """The error object of a body; empty where there is none."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, Mapping) else {}


def error_code(body: object) -> str:
    """The code or type by which a body names its error, in lower case; empty where there is none."""
    error = _error(body)
    return str(error.get("code") or error.get("type") or "").lower()


def filtered(body: object) -> bool:
    """Whether an error says that a content filter stopped the prompt or the answer."""
    error = _error(body)
    inner, metadata = error.get("innererror"), error.get("metadata")
    codes = {error_code(body), str(inner.get("code", "")).lower() if isinstance(inner, Mapping) else ""}
    flagged = isinstance(metadata, Mapping) and ("flagged_input" in metadata or "reasons" in metadata)
    return bool(codes & FILTER_CODES) or "responsibleaipolicyviolation" in codes or flagged


def complaint(body: object, *, prompt: str, key: str | None) -> str:
    """What a server says of an error, fit for logs: short, and without the prompt or the key.

    Args:
        body: the server's answer.
        prompt: what was asked; a message that repeats a piece of it is left out as a whole.
        key: the key; likewise.
    """
    error = _error(body)
    message = error.get("message") or (body.get("detail") or body.get("message") if isinstance(body, Mapping) else "")
    if isinstance(message, list):
        # What servers made with FastAPI say of fields that they do not accept; their `input` repeats the request.
        message = "; ".join(str(part.get("msg", "")) for part in message if isinstance(part, Mapping))
    text = " ".join(_clean(str(message or "")).split())
    return WITHHELD if repeats(text, prompt, WINDOW) or repeats_key(text, key) else text[:300]
