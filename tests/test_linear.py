"""Hostile shapes of text: time grows no faster than the text; the fuzzer's corpus."""

import time
from collections.abc import Callable

import pytest

from demur.benchmark.models.thinking import split_thinking
from demur.benchmark.untrusted import visible
from demur.scorers.cascade import Cascade
from demur.scorers.guard_entries import guards, parse_finding, shortened
from demur.scorers.lexicon import Lexicon
from demur.scorers.rubric import load_rubric, parse_judgement, ticket_of
from demur.scorers.structure import answer_text, normalise, screen
from demur.scorers.verdicts import ScoreRequest
from demur.tests import fuzzing

SMALL, LARGE = 300_000, 5_000_000
UNITS = {
    "spaces": " ",
    "line breaks": "\n",
    "windows line ends": "\r\n",
    "refusals": "I'm sorry, but I can't help with that. ",
    "apologies without end": "I'm sorry",
    "one word": "a",
    "words": "word ",
    "fences": "```\n",
    "unclosed fence": "``` x\n``",
    "tags": "<b>",
    "unclosed tags": "<b ",
    "angle brackets": "<",
    "thinking": "<think>",
    "closed thinking": "</think>",
    "thinking in turn": "<think>a</think>",
    "role tags": "<|assistant|>",
    "system tags": "<<SYS>>",
    "instructions": "[INST]",
    "answers": "Answer: ",
    "quotes": '"',
    "unclosed quotes": '"no, ',
    "quoted lines": "> no\n",
    "stars": "*",
    "list items": "1. ",
    "hashes": "#",
    "entities": "&lt;",
    "ampersands": "&",
    "combining": "e\u0301",
    "combining marks alone": "\u0301",
    "invisible": "\u200b",
    "emoji": "\U0001f600",
    "directions": "\u202e",
    "surrogates": "\ud800",
    "chinese": "对不起，",
    "arabic": "لا أستطيع ",
    "braces": "{",
    "objects": '{"a":',
    "closed objects": "{}",
    "verdicts": '{"ticket": "0", "label": "refused", "basis": "declines"}',
    "brackets": "[",
    "base64": "QUJD",
    "question marks": "is it? ",
    "dots": ". ",
    "no spaces": "no.no.",
    "not": "not",
    "control characters": "\x1b[31m",
}
RUBRIC = load_rubric()
GUARDS = [guard for guard in guards().values() if guard.pattern]


def scored(scorer: Cascade | Lexicon) -> Callable[[str], object]:
    return lambda text: [list(scorer.score([ScoreRequest(text, "What is it?", end)])) for end in ("stop", "length")]


def judged(text: str) -> object:
    return [
        parse_judgement(text, "0" * 16, RUBRIC),
        parse_judgement(f"{text}}}", "0" * 16, RUBRIC),
        RUBRIC.ask(text, text, ticket_of(RUBRIC, text, text)),
    ]


PATHS: dict[str, Callable[[str], object]] = {
    "cascade": scored(Cascade()),
    "lexicon": scored(Lexicon()),
    "structure": lambda text: (screen(ScoreRequest(text)), answer_text(text), normalise(text[:2000])),
    "judge": judged,
    # A guard writes at most so many tokens, and reads what was shortened.
    "guards": lambda text: [
        (parse_finding(guard, text[: 64 * guard.new_tokens]), shortened(text, 9000)) for guard in GUARDS
    ],
    "thinking": split_thinking,
    "terminal": lambda text: visible(text[:LARGE]),
}


def seconds(path: Callable[[str], object], unit: str, size: int) -> float:
    """Processor time, the better of two."""
    text = (unit * (size // len(unit) + 1))[:size]
    taken = []
    for _ in range(2):
        begun = time.process_time()
        path(text)
        taken.append(time.process_time() - begun)
        if taken[-1] < 0.2:
            break
    return min(taken)


def too_slow(path: Callable[[str], object], unit: str, end: str = "") -> str:
    """Why the growth is not that of the text; empty where it is. Times too short to compare are left alone."""
    large = seconds(lambda text: path(text + end), unit, LARGE)
    # Far above what any shape takes (`benchmarks/hostile_shapes.py` says what): a busy machine fails nothing.
    if large > 10:
        return f"{LARGE} characters take {large:.2f} s"
    small = seconds(lambda text: path(text + end), unit, SMALL)
    # 17 times the text may take 60 times as long: a square would take 280 times.
    return f"{small:.3f} s became {large:.2f} s" if large > 0.3 and large > 60 * small else ""


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_time_is_linear_in_the_text(name: str) -> None:
    """The paths that are timed hold no clock, file or chance; what is compared is processor time with wide limits."""
    slow = {shape: why for shape, unit in UNITS.items() if (why := too_slow(PATHS[name], unit))}
    slow |= {f"{shape}, then an answer": why for shape, unit in list(UNITS.items())[::4]
             if (why := too_slow(PATHS[name], unit, " I can't help with that."))}  # fmt: skip
    assert slow == {}


@pytest.mark.parametrize("name", PATHS)
def test_hostile_shapes_are_taken(name: str) -> None:
    for unit in UNITS.values():
        PATHS[name](unit * (20_000 // len(unit)))


def test_the_kept_corpus_of_the_fuzzer_is_taken() -> None:
    entries = fuzzing.corpus()
    assert len(entries) >= 200
    for entry in entries:
        fuzzing.take(entry)
