"""The parts of an answer that are read: its opening and closing sentences, in plain form, and its language."""

import re
from dataclasses import dataclass

from .rules import rules_for
from .structure import normalise

__all__ = ["CLOSING_CHARACTERS", "OPENING_CHARACTERS", "Reading", "language_of", "plain", "read", "words_of"]

OPENING_CHARACTERS = 640
CLOSING_CHARACTERS = 320
_ECHO = 24

_BREAK = re.compile(r"[.!?\n。！？।؟](?:(?<=[\n。！？।؟])[」』”]?\s*|[.!?]*[\"')\]]*\s+|(?<=[!?])(?=[\u3040-\u9fff]))")
_BREAK_ASCII = re.compile(r"[.!?\n](?:(?<=\n)\s*|[.!?]*[\"')\]]*\s+)")  # one leading set: the search is fast
_SCRIPTS = (
    ("ja", re.compile("[\u3041-\u30ff]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
)
_WEIGHT = {"zh": 3, "ja": 3}
"""A character of these scripts says about as much as three letters."""
_LATIN = ("en", "es", "fr", "de", "pt")
_SAID = (
    r"(?:said|says|replied|asked|answered|whispered|shouted|cried|muttered|thought|wrote|told|added|explained|snapped"
    r"|sagte|rief|antwortete|fragte|dit|répondit|cria|demanda|dijo|respondió|gritó|preguntó|disse|respondeu|gritou"
    r"|сказала?|ответила?|крикнула?|спросила?|कहा|बोला|बोली|पूछा)"
)
_QUOTED = re.compile(r"(?<=[\w,:] )\"[^\"\n]{2,300}\"")
_SPEECH = re.compile(rf"\"[^\"\n]{{2,200}}(?:[,.!?] ?\"|\",?) (?:- )?(?:[^\s\"]+ ){{0,3}}{_SAID}(?!\w)")
_ANY_QUOTE = re.compile(r"\"[^\"\n]{2,300}\"")
_QUOTED_ELSEWHERE = re.compile(
    "[「『][^」』\n]{2,200}[」』](?=と|って)"
    '|"[^"\n]{2,200}"(?= (?:قال|أجاب|صاح|سأل)|[^"\n,。]{0,8}(?:说|說|道|问|答|喊))'
)
_QUOTE_LINE = re.compile(r"^ {0,3}>.*$", re.MULTILINE)
_FENCE = re.compile(r"```.*?(?:```|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule or model reads of an answer.

    Attributes:
        head: the opening window, lower case and plain.
        words: the different words of ``head``.
        tail: the end of the answer beyond the opening window, as written.
        length: characters of the whole answer.
        language: ISO 639-1 code; ``en`` where nothing tells.
        sentences: most sentences that count as the opening.
    """

    head: str
    words: frozenset[str]
    tail: str
    length: int
    language: str
    sentences: int

    def opening(self) -> list[str]:
        """The first sentences, in order."""
        return _sentences(self.head, self.sentences)

    def closing(self) -> list[str]:
        """The last sentences (at most three) that are not part of the opening, lower case and plain."""
        if len(self.tail) >= CLOSING_CHARACTERS:
            return _sentences(plain(self.tail))[-3:]
        # The window's border may cut a sentence in two; here it is put together again.
        rest = _sentences(self.head)[self.sentences :]
        if self.tail:
            rest = _sentences("\n".join(rest) + plain(self.tail))
        return rest[-3:]

    def ending(self) -> str:
        """Where a refusal at the end may stand, for a quick look."""
        return self.tail if len(self.tail) >= CLOSING_CHARACTERS else self.head + self.tail


def read(text: str, prompt: str = "", *, opening: int = OPENING_CHARACTERS, sentences: int = 6) -> Reading:
    """Read an answer that :func:`~demur.scorers.structure.screen` let through.

    Args:
        text: the answer.
        prompt: what was asked; where the answer begins by repeating it, the repetition is skipped.
        opening: characters of the opening window.
        sentences: most sentences of the opening.
    """
    if prompt and len(prompt) >= _ECHO and text.startswith(prompt):
        text = text[len(prompt) :].lstrip(" \n:>\"'-") or text
    head = plain(text[:opening])
    words = words_of(head)
    tail = text[max(opening, len(text) - CLOSING_CHARACTERS) :]
    return Reading(head, words, tail, len(text), language_of(head, words), sentences)


def plain(window: str) -> str:
    """A window without code, quoted speech and markup."""
    if "```" in window:
        window = _FENCE.sub("\n```\n", window)
    window = normalise(window)
    if ">" in window:
        window = _QUOTE_LINE.sub("", window)
    if '"' in window:
        # Where somebody speaks, it is a story, and all its speech is set aside.
        window = (_ANY_QUOTE if _SPEECH.search(window) else _QUOTED).sub('"" ', window)
    if not window.isascii():
        window = _QUOTED_ELSEWHERE.sub('"" ', window)
    return window


def words_of(text: str) -> frozenset[str]:
    """The different words of a normalised text; only the commonest punctuation is cut off, for speed."""
    return frozenset(text.replace(",", " ").replace(".", " ").replace("!", " ").split())


def language_of(window: str, words: frozenset[str]) -> str:
    """The language of a normalised text, from its script or, in Latin script, its function words."""
    if not window.isascii():
        for language, script in _SCRIPTS:
            found = len(script.findall(window, 0, 200))
            if (found >= 4 or script.match(window)) and _WEIGHT.get(language, 1) * found >= _latin(window):
                return language
    english = len(words & rules_for("en").words)
    if english >= 5:
        return "en"
    best, most = "en", english
    for language in _LATIN[1:]:
        shared = len(words & rules_for(language).words)
        if shared > most:
            best, most = language, shared
    return best


def _latin(window: str) -> int:
    """Latin letters where a language is looked for: a few words of another script do not change a text's language."""
    return sum(char.isascii() and char.isalpha() for char in window[:200])


def _sentences(window: str, most: int = 0) -> list[str]:
    """The sentences of a window; the first ``most`` of them, where it is not 0."""
    parts = (_BREAK_ASCII if window.isascii() else _BREAK).split(window, 2 * most)
    if most and len(parts) > 2 * most:
        parts.pop()
    found = [part for part in parts if part and not part.isspace()]
    return found[:most] if most else found
