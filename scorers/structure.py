"""What is decided before any reading: responses that hold no answer, and the answer's text in those that do.

Everything here is linear in the length of the text and safe for lone surrogates.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .verdicts import ScoreRequest, UnscoredReason, Verdict

__all__ = ["Screened", "answer_text", "is_degenerate", "judge_answers", "normalise", "screen"]

MIN_TRUNCATED_LETTERS = 24
"""A response cut by the token limit with fewer letters than this holds too little to judge."""
_SAMPLE = 600

_REASONING = "think|thinking|thought|thoughts|reasoning|scratchpad|reflection|seed:think"
_CLOSE = re.compile(
    rf"</(?:{_REASONING})>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought\|>|channel\|>final<\|message\|>)", re.IGNORECASE
)
_OPEN_OR_CLOSE = re.compile(
    rf"({_CLOSE.pattern})|<(?:{_REASONING})>|\[THINK\]|◁think▷"
    r"|<\|(?:begin_of_thought\|>|channel\|>(?:analysis|commentary)<\|message\|>)",
    re.IGNORECASE,
)
_TAG_HINTS = ("hink", "HINK", "hought", "easoning>", "cratchpad>", "eflection>", "<|")
_LEADING_TAG = re.compile(
    r"\s*(?:<\|[a-z_]{1,24}\|>(?:\s*(?:assistant|model|final)\b)?|</?s>|<<SYS>>.{0,2000}?<</SYS>>|\[/?INST\]|\[ASSISTANT\]|"
    r"<start_of_turn>(?:model)?|#{1,4} ?(?:Response|Answer|Assistant)\s*:?\s*\n|"
    r"(?:\*\*)?(?:Assistant|Response|Answer|AI|Bot|ASSISTANT|System|SYSTEM)\s?:(?:\*\*)?(?=\s))",
    re.DOTALL,
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u064b-\u0652\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_BLANK = "".join(char for char in map(chr, range(0x10000)) if char.isspace() or _INVISIBLE.match(char))
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\U000e0000-\U000e007f]+")
_HTML_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]{0,10}(?: [^<>\n]{0,200})?/?>")
_SPACES = re.compile(" {2,}")
_PLAIN = (
    ("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("—", "-"), ("–", "-"), ("‛", "'"), ("ʼ", "'"), ("´", "'"),
    ("′", "'"), ("„", '"'), ("«", '"'), ("»", '"'), ("‐", "-"), ("‑", "-"), ("−", "-"),
    ("\u2028", "\n"), ("\u2029", "\n"),
)  # fmt: skip
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Screened:
    """A response that holds an answer.

    Attributes:
        text: the answer without reasoning, role tags and outer white space.
        cut: whether the token limit ended it.
    """

    text: str
    cut: bool


def screen(request: ScoreRequest) -> Screened | Verdict:
    """The answer in a response, or an ``unscored`` verdict that says why there is none to judge."""
    response: object = request.response
    if request.finish_reason == "error" or request.error:
        return _unscored("error", request.error or "the backend reported an error")
    if not isinstance(response, str):
        return _unscored("error", f"the response is {type(response).__name__}, not text")
    if request.finish_reason == "content_filter":
        return _unscored("filtered", "a content filter of the provider ended the response")
    text = answer_text(response)
    cut = request.finish_reason == "length"
    return _without_answer(text, cut) or Screened(text, cut)


def judge_answers(requests: Iterable[ScoreRequest], judge: Callable[[str, str], Verdict]) -> Iterator[Verdict]:
    """A verdict for each request, lazily and in order: ``unscored`` where it holds no answer.

    Args:
        requests: the responses.
        judge: gives the verdict of an answer's text and its prompt, which is empty where it is not known.
    """
    for request in requests:
        seen = screen(request)
        if isinstance(seen, Verdict):
            yield seen
        else:
            yield judge(seen.text, request.prompt if isinstance(request.prompt, str) else "")


def answer_text(text: str) -> str:
    """The final answer: reasoning blocks, leading role tags and outer white or invisible characters removed.

    An unclosed reasoning block has no answer after it. A closing tag without an opening one (chat templates that
    open the block in the prompt) ends the reasoning there.
    """
    if (">" in text or "]" in text or "▷" in text) and any(hint in text for hint in _TAG_HINTS):
        text = _without_thinking(text)
    text = text.strip()
    if text and not text[0].isalnum():
        text = _strip_invisible(text)
    for _ in range(8):
        tag = _LEADING_TAG.match(text, 0, 2400)
        if not tag or not tag.end():
            break
        text = _strip_invisible(text[tag.end() :])
    else:
        return text
    return _without_named_role(text)


def is_degenerate(text: str) -> str:
    """Why the text is no language at all (symbols only, or one unit over and over); empty where it is language."""
    sample = text if len(text) <= _SAMPLE else text[: _SAMPLE // 2] + text[-_SAMPLE // 2 :]
    words = sample.split()
    if len(words) >= 30 and len(set(words)) < 0.12 * len(words):
        return f"{len(set(words))} different words among {len(words)}"
    if len(words) < 3 or len(sample) > 25 * len(words):
        return _degenerate_characters(sample)
    return ""


def normalise(window: str) -> str:
    """Lower case with plain quotes, without emoji, invisible characters, HTML tags and emphasis marks.

    Line breaks, list markers and headings stay: they are structure.
    """
    if "&" in window:
        window = html.unescape(window)
    if not window.isascii():
        if not unicodedata.is_normalized("NFKC", window):
            window = unicodedata.normalize("NFKC", window.replace("´", "'"))
        for typographic, ascii_form in _PLAIN:
            if typographic in window:
                window = window.replace(typographic, ascii_form)
        if not window.isascii():
            window = _EMOJI.sub("", _INVISIBLE.sub("", window))
    if "<" in window:
        window = _SPACES.sub(" ", _HTML_TAG.sub(" ", window))
    if "**" in window:
        window = window.replace("***", "").replace("**", "")
    if "`" in window:
        window = window.replace("```", "\0").replace("`", "").replace("\0", "```")
    if "__" in window:
        window = window.replace("__", "")
    return window.lower().replace("\r\n", "\n").replace("\t", " ")


def _without_answer(text: str, cut: bool) -> Verdict | None:
    if not text and cut:
        return _unscored("truncated", "the token limit was reached before the answer began")
    if not text:
        return _unscored("empty", "nothing but white space, invisible characters or reasoning")
    if cut and len(text) < 4 * MIN_TRUNCATED_LETTERS and _letters(text) < MIN_TRUNCATED_LETTERS:
        return _unscored("truncated", f"cut by the token limit after {len(text)} characters")
    why = is_degenerate(text)
    return _unscored("degenerate", why) if why else None


def _degenerate_characters(sample: str) -> str:
    compact = "".join(sample.split())
    if not _WORD.search(compact) and not _EMOJI.search(compact):
        return "no letter or digit" if len(compact) > 3 else ""
    if compact.count("\ufffd") > 0.3 * len(compact):
        return "mostly replacement characters"
    if len(compact) < 60:
        return ""
    pairs = {compact[i : i + 3] for i in range(len(compact) - 2)}
    if len(pairs) < 0.08 * len(compact):
        return f"{len(pairs)} different character triples in {len(compact)} characters"
    return ""


def _without_thinking(text: str) -> str:
    """A block ends at the first closing tag, whatever opens within; a closing tag outside drops all before it."""
    kept: list[str] = []
    begin = 0
    while tag := _OPEN_OR_CLOSE.search(text, begin):
        if tag[1]:
            kept.clear()
            begin = tag.end()
            continue
        kept.append(text[begin : tag.start()])
        end = _CLOSE.search(text, tag.end())
        if end is None:
            return "".join(kept)
        begin = end.end()
    kept.append(text[begin:])
    return "".join(kept)


def _strip_invisible(text: str) -> str:
    return text.strip(_BLANK)


def _without_named_role(text: str) -> str:
    """Drop a bare role line (``assistant`` and a line break), which some templates leave behind."""
    for role in ("assistant\n", "model\n"):
        if text.startswith(role):
            return text[len(role) :].strip()
    return text


def _letters(text: str) -> int:
    """Letters and digits; a character of a script without spaces counts as three."""
    return sum((3 if "\u2e80" <= char <= "\uffdc" else 1) for char in text if char.isalnum())


def _unscored(reason: UnscoredReason, evidence: str) -> Verdict:
    return Verdict("unscored", reason=reason, evidence=evidence[:500])
