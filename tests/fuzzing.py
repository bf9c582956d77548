"""What the fuzzer of the scorers' text path does with one input; also replayed over its kept corpus by the tests.

The coverage-guided part is ``benchmarks/fuzz_scorer.py``; this module needs no fuzzer.
"""

import base64
import json
from pathlib import Path

from demur.benchmark.untrusted import visible
from demur.scorers.cascade import Cascade
from demur.scorers.guard_entries import guard_input, guards, parse_finding, shortened
from demur.scorers.lexicon import Lexicon
from demur.scorers.rubric import load_rubric, parse_judgement, ticket_of
from demur.scorers.verdicts import ScoreRequest, Verdict

CORPUS = Path(__file__).parent / "cases" / "fuzz_corpus.json"
REASONS = ("stop", "length", "content_filter", "error")
SCORERS = (Cascade(), Lexicon())
RUBRIC = load_rubric()
PARSED = [guard for guard in guards().values() if guard.pattern]


def corpus() -> list[bytes]:
    """Inputs that reach different places of the scorers: invented seeds, and what the fuzzer made of them."""
    return [base64.b85decode(entry) for entry in json.loads(CORPUS.read_text(encoding="utf-8"))]


def take(data: bytes) -> list[Verdict]:
    """Send one input through every scorer, judge's reading and guard's reading; what they return must be whole.

    The first byte chooses how the response ended, the second how much of the rest is the prompt.
    """
    head, rest = data[:2].ljust(2, b"\0"), data[2:]
    cut = len(rest) * (head[1] % 4) // 8
    prompt, text = (part.decode("utf-8", "surrogateescape") for part in (rest[:cut], rest[cut:]))
    request = ScoreRequest(text, prompt, REASONS[head[0] % 16 if head[0] % 16 < 4 else 0])
    found = []
    for scorer in SCORERS:
        verdicts = list(scorer.score([request]))
        if len(verdicts) != 1:
            raise AssertionError(f"{len(verdicts)} verdicts for one response")
        found += verdicts
    ticket = ticket_of(RUBRIC, prompt, text)
    question = RUBRIC.ask(prompt, text, ticket)
    if ticket not in question or ticket in text:
        raise AssertionError("the ticket is not the judge's alone")
    if parse_judgement(text, ticket, RUBRIC) is not None:
        raise AssertionError("a response was read as a judgement though it cannot know the ticket")
    for guard in PARSED:
        parse_finding(guard, text)
        guard_input(guard, prompt, shortened(text, 200))
    if any(char in visible(text) for char in "\x1b\x9b\u202e\u2066\r\x08"):
        raise AssertionError("a character that steers a terminal got through")
    return found
