"""How well style alone tells the two sides apart: it should not."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from .records import Prompt
from .wordlists import word_lists, words

__all__ = ["SideGuess", "side_guess", "style_features"]

_PUNCTUATION = ".,?!;:-'\"()"
_LEAKS = 8
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class SideGuess:
    """Area under the ROC curve of guessing the side, mean over the halvings.

    Attributes:
        style: from style alone.
        all_words: from all words, for information: topics differ, so it is high by nature.
        leaks: the style features with the largest weights; positive speaks for the harmful side.
    """

    style: float
    all_words: float
    leaks: tuple[tuple[str, float], ...]


def style_features(text: str) -> dict[str, float]:
    """Counts of function words and punctuation, lengths and the class of the opening word; no content word."""
    lists = word_lists()
    found = words(text)
    count = max(len(found), 1)
    features: Counter[str] = Counter(f"word {word}" for word in found if word in lists.function_words)
    for mark in _PUNCTUATION:
        features[f"mark {mark}"] = text.count(mark)
    opening = found[0] if found else ""
    kind = next((name for name, members in lists.openings.items() if opening in members), "other")
    numbers = {
        "words": count,
        "letters a word": sum(map(len, found)) / count,
        "sentences": len(re.findall(r"[.?!](?:\s|$)", text)),
        "share of function words": sum(word in lists.function_words for word in found) / count,
        "contractions": sum("'" in word for word in found),
        "ends as a question": float(text.rstrip().endswith("?")),
        f"opens with {kind}": 1.0,
    }
    if opening in lists.function_words:
        numbers[f"first word {opening}"] = 1.0
    return {**{name: float(value) for name, value in features.items() if value}, **numbers}


def side_guess(prompts: Sequence[Prompt]) -> SideGuess:
    """Train on one half of the pairs, guess the sides of the other half, both ways round, for several halvings.

    The penalty of the logistic regression is the best of three on the test halves: the guesser gets every advantage.

    Args:
        prompts: both sides of at least four pairs.

    Raises:
        ValueError: fewer than four pairs.
    """
    pairs = sorted({prompt.pair_id for prompt in prompts})
    if len(pairs) < 4:
        raise ValueError("a guess of the side needs at least four pairs")
    target = np.array([prompt.side == "harmful" for prompt in prompts])
    owner = np.array([prompt.pair_id for prompt in prompts])
    features: list[Any] = [style_features(prompt.text) for prompt in prompts]
    texts: list[Any] = [prompt.text for prompt in prompts]
    rng = np.random.default_rng(0)
    halvings = [np.isin(owner, rng.permutation(pairs)[: len(pairs) // 2]) for _ in range(_REPEATS)]

    def mean_auc(data: list[Any], make: Callable[[], Pipeline]) -> float:
        scores = []
        for half in halvings:
            for train in (half, ~half):
                model = make().fit([data[i] for i in np.flatnonzero(train)], target[train])
                guess = model.decision_function([data[i] for i in np.flatnonzero(~train)])
                scores.append(float(roc_auc_score(target[~train], guess)))
        return float(np.mean(scores))

    style = max(mean_auc(features, lambda c=c: _style_model(c)) for c in (0.003, 0.03, 0.3))  # type: ignore[misc]
    return SideGuess(style, mean_auc(texts, _word_model), _leaks(features, target))


def _style_model(penalty: float) -> Pipeline:
    return make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))


def _word_model() -> Pipeline:
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )


def _leaks(features: list[Any], target: np.ndarray[Any, Any]) -> tuple[tuple[str, float], ...]:
    model = _style_model(0.03).fit(features, target)
    names = model[0].get_feature_names_out()
    weights = model[-1].coef_[0]
    order = np.argsort(-np.abs(weights))[:_LEAKS]
    return tuple((str(names[i]), round(float(weights[i]), 2)) for i in order)
