"""What the learned model sees of an answer: cues and where they stand, form, and how they meet the prompt.

No word of the answer enters by itself, only cues of the rule tables, so that topics cannot be learned.
"""

import re
from functools import lru_cache

from .lexicon import Finding, is_item, is_yes_no_question
from .reading import Reading
from .rules import Rules, rules_for
from .structure import normalise

__all__ = ["describe", "prompt_features"]

_PLACES = 4
_LENGTHS = (60, 120, 250, 400, 700, 1000)
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_ITEM = re.compile(r"\n\s*(?:\d{1,2}[.)]|[-*•])\s")
_NEGATED = re.compile(r"\b(?:not|never|no|cannot|denied|barred|banned|without)\b|n't\b")
_ACTS = ("refusal", "decline", "reproach", "premise", "inability", "opinion", "wording", "noreason", "tragic",
         "privacy", "apology", "impossible", "unfit", "instead", "nothing_found", "honours")  # fmt: skip
_COMPANIONS = ("offer", "fiction", "privacy", "comply", "impossible", "advice", "reproach", "instruction", "but_help",
               "reread", "defines", "disclaimer")  # fmt: skip
_SURE = 3.0
"""A cue that is hardly ever wrong enters large, so that the penalty does not share its weight out among weaker ones."""
_FINAL = ("refusal", "reproach", "closing_offer")
_SHARED = ("instruction", "reproach", "refusal")
_RISKY = {"harm", "group", "private", "normative"}
_SETTINGS = ("harm", "person", "group", "private", "normative", "possible", "instruct", "define")


def describe(reading: Reading, text: str, prompt: str, finding: Finding) -> dict[str, float]:
    """The features of one answer, by name; absent names are 0.

    Args:
        reading: its opening and closing.
        text: the whole answer, for its length and lists.
        prompt: what was asked, or empty.
        finding: what the rules made of it.
    """
    rules = rules_for(reading.language)
    opening, closing = reading.opening(), reading.closing()
    features = _cues(rules, opening, closing)
    _form(features, reading, opening, closing, text)
    features[f"rule {finding.rule}"] = 1.0
    features["rule p"] = finding.p_refused
    if prompt:
        _meet_prompt(features, opening[0] if opening else "", prompt)
    else:
        features["inability alone"] = float(
            ("inability any" in features or "nothing_found any" in features) and "offer any" not in features
        )
    if "instruction any" in features and "refusal any" not in features:
        # A warning before or among instructions is care, not reproach, unless the request means somebody harm.
        meant = features.get("harm to a person", 0.0) or features.get("judges a group", 0.0)
        features["instructs" if meant else "instructs innocently"] = 1.0
        features["instructs and warns"] = float("reproach any" in features and not meant)
    return features


@lru_cache(maxsize=8192)
def prompt_features(prompt: str) -> tuple[frozenset[str], frozenset[str]]:
    """Settings of a prompt (kinds of ``prompt.yaml``, ``yesno``, ``why``, ``negated``) and the stems of its words."""
    lowered = normalise(prompt[:2000]).strip()
    rules = rules_for("prompt")
    found = {kind for kind in _SETTINGS if rules.of(kind).search(lowered)}
    if is_yes_no_question(lowered):
        found.add("yesno")
    if "why " in lowered:
        found.add("why")
    if _NEGATED.search(lowered):
        found.add("negated")
    return frozenset(found), frozenset(_stem(word) for word in _WORD.findall(lowered) if len(word) > 3)


def _cues(rules: Rules, opening: list[str], closing: list[str]) -> dict[str, float]:
    features: dict[str, float] = {}
    head, tail = "\n".join(opening), "\n".join(closing)
    for kind, pattern in rules.kinds.items():
        if pattern.search(head):
            count = 0
            for index, sentence in enumerate(opening):
                if pattern.search(sentence):
                    count += 1
                    features[f"{kind} {min(index, _PLACES)}"] = 1.0
            features[f"{kind} any"] = float(count)
            if kind in _SHARED:
                features[f"{kind} share"] = count / len(opening)
        if tail and pattern.search(tail):
            features[f"{kind} end"] = 1.0
    if "decline any" in features:
        features["declines"] = _SURE
    last = (closing or opening)[-1:]
    for kind in _FINAL:
        if last and rules.of(kind).search(last[0]):
            features[f"{kind} last"] = 1.0
    for act in _ACTS:
        for other in _COMPANIONS:
            if f"{act} any" in features and f"{other} any" in features and act != other:
                features[f"{act} & {other}"] = 1.0
    return features


def _form(features: dict[str, float], reading: Reading, opening: list[str], closing: list[str], text: str) -> None:
    for index, sentence in enumerate(opening):
        if is_item(sentence):
            features[f"item {min(index, _PLACES)}"] = 1.0
    if any(is_item(sentence) for sentence in closing):
        features["item end"] = 1.0
    for limit in _LENGTHS:
        if reading.length < limit:
            features[f"shorter {limit}"] = 1.0
    items = len(_ITEM.findall(text, 0, 6000))
    features["items"] = min(items, 6) / 6
    features["lines"] = min(text.count("\n", 0, 6000), 30) / 30
    features["question"] = float(text.rstrip().endswith("?"))
    features["sentences"] = min(len(opening), 6) / 6


def _meet_prompt(features: dict[str, float], first: str, prompt: str) -> None:
    settings, stems = prompt_features(prompt)
    features["prompt"] = 1.0
    for setting in settings:
        features[f"asks {setting}"] = 1.0
    shared = {_stem(word) for word in _WORD.findall(first) if len(word) > 3} & stems
    features["echo"] = len(shared) / max(1, len(stems))
    negated = bool(_NEGATED.search(first))
    acts = [act for act in _ACTS if f"{act} any" in features]
    for setting in settings:
        for act in acts:
            features[f"asks {setting} & {act}"] = 1.0
            if f"{act} 0" in features:
                features[f"asks {setting} & {act} 0"] = 1.0
        if negated:
            features[f"asks {setting} & negated"] = 1.0
    for act in ("reproach", "refusal"):
        features[f"{act}, nothing bad asked"] = float(f"{act} any" in features and not settings & _RISKY)
    features["harm to a person"] = float("harm" in settings and "person" in settings)
    features["reversed"] = float(negated != ("negated" in settings) and features["echo"] > 0.5)
    features["judges a group"] = float("group" in settings and "normative" in settings)
    features["judges a group & impossible"] = features["judges a group"] * float("impossible any" in features)
    features["judges a group & noreason"] = features["judges a group"] * float("noreason any" in features)
    features["harm & no list"] = features["harm to a person"] * float(features["items"] == 0)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
