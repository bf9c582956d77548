"""The rule tables: what refusing, apologising, reproaching and offering look like in each language."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

__all__ = ["LANGUAGES", "Rules", "rules_for", "rules_hash"]

LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "ja", "pt", "ru", "zh")

_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class Rules:
    """Cues of one language.

    Attributes:
        language: ISO 639-1 code.
        words: frequent function words; they tell the languages in Latin script apart.
        gates: per kind, words of which a text must have one to be worth searching; no gate where a kind is missing.
        kinds: one compiled alternation per kind of cue (``refusal``, ``apology``, ``offer`` ...).
    """

    language: str
    words: frozenset[str]
    gates: Mapping[str, frozenset[str]]
    kinds: Mapping[str, re.Pattern[str]]

    def rules_out(self, kind: str, words: frozenset[str]) -> bool:
        """Whether a text with these words cannot hold a cue of the kind."""
        gate = self.gates.get(kind)
        return gate is not None and gate.isdisjoint(words)

    def of(self, kind: str) -> re.Pattern[str]:
        """The pattern of a kind; one that never matches where the language has no such cue."""
        return self.kinds.get(kind, _NEVER)


@cache
def rules_for(language: str) -> Rules:
    """The rules of one of :data:`LANGUAGES`, or of ``prompt``: what a prompt asks for."""
    table = yaml.safe_load(_source(language))
    macros: dict[str, str] = table.get("macros", {})
    kinds = {
        kind: re.compile(_alternation([_expanded(pattern, macros) for pattern in patterns]), re.MULTILINE)
        for kind, patterns in table["kinds"].items()
    }
    gates = {kind: frozenset(words) for kind, words in table.get("gates", {}).items()}
    return Rules(table["language"], frozenset(table.get("words", ())), gates, kinds)


@cache
def rules_hash() -> str:
    """SHA-256 over all rule tables, the first 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for language in (*LANGUAGES, "prompt"):
        digest.update(_source(language).encode())
    return digest.hexdigest()[:12]


def _alternation(patterns: list[str]) -> str:
    """One pattern of many; the word boundary that most begin with is tried once, which makes a search twice as fast."""
    bounded = [f"(?:{pattern[2:]})" for pattern in patterns if pattern.startswith(r"\b")]
    others = [f"(?:{pattern})" for pattern in patterns if not pattern.startswith(r"\b")]
    return "|".join(([rf"\b(?:{'|'.join(bounded)})"] if bounded else []) + others)


def _source(language: str) -> str:
    # Composed like the texts, whose letters with marks (Hindi) may be written in two ways.
    text = files(__package__).joinpath("rules", f"{language}.yaml").read_text(encoding="utf-8")
    return unicodedata.normalize("NFC", text)


def _expanded(pattern: str, macros: Mapping[str, str]) -> str:
    for name, text in macros.items():
        pattern = pattern.replace(f"{{{name}}}", text)
    return pattern
