"""Checks of one text by itself, and of two wordings of one side."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from .errors import DemurError
from .pairs import Pair
from .records import SIDES, Prompt
from .wordlists import word_lists, words

__all__ = [
    "LONGEST",
    "SHORTEST",
    "bad_length",
    "forbidden",
    "grams",
    "not_english",
    "outside_grams",
    "personal_data",
    "shared_wording",
]

SHORTEST = 5
LONGEST = 60

_PERSONAL = {
    "an e-mail address": re.compile(r"\S@\S"),
    "a web address": re.compile(r"https?:|www\.|\b[a-z0-9-]+\.(?:com|org|net|io|co|gov|edu)\b", re.I),
    "a long number": re.compile(r"\d[\d\s().-]{2,}\d"),
    "a street address": re.compile(
        r"\b\d+\s+[A-Z]?\w+\s+(?:street|road|avenue|lane|drive|square)\b|\b(?:street|avenue|road|lane)\s+(?:no\.?\s*)?\d",
        re.I,
    ),
    "a title with a name": re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sir|Lady|Lord|President|Senator)\.?\s+[A-Z]"),
}
_QUANTITY = re.compile(
    r"\b(?:\d+(?:[.,]\d+)?|one|two|three|four|five|six|ten|twelve|twenty|fifty|hundred)\s*"
    r"(?:mg|g|kg|ml|cl|grams?|kilos?|kilograms?|milligrams?|litres?|liters?|ounces?|pounds of|"
    r"teaspoons?|tablespoons?|volts?|degrees)\b",
    re.I,
)
_CODE = re.compile(r"```|`|</?\w+>|[{}\\|]|\b(?:sudo|chmod|DROP TABLE)\b")
_CAPITALISED = re.compile(r"\b[A-Z][A-Za-z'-]*")
_STARTS = re.compile(r"(?:^|[.?!:;])[\s'\"(]*$")


def bad_length(text: str) -> str | None:
    """What is wrong with the length, if anything: 5 to 60 words."""
    count = len(text.split())
    return None if SHORTEST <= count <= LONGEST else f"{count} words"


def not_english(text: str) -> str | None:
    """What speaks against plain English, if anything: letters outside ASCII, or hardly a function word."""
    strange = next((letter for letter in text if not letter.isascii()), None)
    if strange is not None:
        return f"character U+{ord(strange):04X} outside ASCII"
    found = words(text)
    share = sum(word in word_lists().function_words for word in found) / max(len(found), 1)
    return None if share >= 0.15 else f"only {share:.0%} English function words"


def personal_data(text: str) -> str | None:
    """What looks like personal data, if anything: addresses, numbers, names.

    A capitalised word inside a sentence counts as a name unless it is on the list of words that name no person.
    """
    for what, pattern in _PERSONAL.items():
        if pattern.search(text):
            return what
    allowed = word_lists().proper_words
    for match in _CAPITALISED.finditer(text):
        if _STARTS.search(text, 0, match.start()):
            continue  # the first word of a sentence
        word = match.group()
        bare = word.removesuffix("'s").rstrip("'")
        if not {word, bare, bare.removesuffix("s")} & allowed:
            return f"the capitalised word {word!r} (add it to wordlists.yaml if it names no person)"
    return None


def forbidden(prompt: Prompt) -> str | None:
    """Which forbidden term stands in a prompt, if any."""
    lists = word_lists()
    found = words(prompt.text)
    present = set(found) | {part for word in found for part in word.split("-")}
    present |= {word.removesuffix("'s") for word in present}
    minors = present & lists.minors if prompt.hazard == "sexual_exploitation" or present & lists.sexual else set()
    means = present & lists.means if prompt.side == "harmful" else set()
    quantity = _QUANTITY.findall(prompt.text) if prompt.side == "harmful" else []
    phrases = [phrase for phrase in lists.trick_phrases if phrase in " ".join(found)]
    slurs = [word for word in present if hashlib.sha256(word.encode()).hexdigest() in lists.slur_hashes]
    kinds = {
        "a slur spelled out": slurs and ["not shown"],
        "a word about minors in a sexual setting": sorted(minors),
        "a named means": sorted(means),
        "a quantity": quantity,
        "a trick against refusals": sorted(present & lists.tricks) + phrases,
        "code": _CODE.findall(prompt.text),
    }
    told = [f"{kind} ({', '.join(terms)})" for kind, terms in kinds.items() if terms]
    return "; ".join(told) or None


def grams(text: str, length: int) -> set[tuple[str, ...]]:
    """Every run of ``length`` words."""
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def shared_wording(pairs: Iterable[Pair]) -> Iterator[str]:
    """Every side whose canonical and paraphrase share four words in a row."""
    for pair in pairs:
        for side in SIDES:
            if grams(pair.texts[side]["canonical"], 4) & grams(pair.texts[side]["paraphrase"], 4):
                yield f"{pair.id}/{side}"


@cache
def outside_grams(path: Path, length: int) -> frozenset[tuple[str, ...]]:
    """Every run of ``length`` words in the lines of a text, CSV or JSON-lines file.

    Raises:
        DemurError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise DemurError(f"{path}: cannot read it as UTF-8 text", "give a text, CSV or JSON-lines file") from fault
    found: set[tuple[str, ...]] = set()
    for line in lines:
        found |= grams(line, length)
    return frozenset(found)
