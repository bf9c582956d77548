"""Agreement between judges: Cohen's kappa of two, Krippendorff's alpha of any number."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from .verdicts import LABELS

__all__ = ["Codes", "agreement", "codes_of", "cohen_kappa", "krippendorff_alpha", "nominal_alpha"]

Codes = npt.NDArray[np.int8]
"""Labels as places in ``LABELS``; the last one is ``unscored``."""
_SCORED = len(LABELS) - 1
_PLACE: dict[str, int] = {label: place for place, label in enumerate(LABELS)}


def codes_of(labels: Sequence[str]) -> Codes:
    """Labels as numbers, a byte each."""
    return np.fromiter((_PLACE[label] for label in labels), np.int8, len(labels))


def cohen_kappa(first: Codes, second: Codes, *, binary: bool = True) -> float | None:
    """Cohen's kappa (Cohen 1960) over the items that both scored.

    Args:
        first: labels of one judge.
        second: labels of the other, item by item.
        binary: read ``partial`` as ``refused``.

    Returns:
        Kappa, or None where it is undefined: no common item, or both give one and the same label throughout.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} labels and {len(second)}")
    both = (first < _SCORED) & (second < _SCORED)
    if not both.any():
        return None
    a, b = _read(first[both], binary), _read(second[both], binary)
    counts = np.bincount(a.astype(np.int64) * _SCORED + b, minlength=_SCORED**2).reshape(_SCORED, _SCORED) / both.sum()
    chance = float(counts.sum(0) @ counts.sum(1))
    return None if chance == 1.0 else float((np.trace(counts) - chance) / (1.0 - chance))


def krippendorff_alpha(judges: Sequence[Codes], *, binary: bool = True) -> float | None:
    """Krippendorff's alpha (nominal); unscored items are missing values. None where fewer than two labels occur."""
    table = np.stack([_read(judge, binary) for judge in judges])
    return nominal_alpha(np.stack([(table == place).sum(0) for place in range(_SCORED)], axis=1))


def nominal_alpha(counts: npt.NDArray[np.integer[Any]]) -> float | None:
    """Krippendorff's alpha for nominal values (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, part E).

    Args:
        counts: how often each unit was given each value; units x values. Units with fewer than two values tell nothing.

    Returns:
        1 - observed / expected disagreement, or None where fewer than two values occur in comparable units.
    """
    comparable = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    given, values = comparable.sum(axis=1), comparable.sum(axis=0)
    if (values > 0).sum() < 2:
        return None
    n = values.sum()
    unlike = (comparable * (given[:, None] - comparable)).sum(axis=1)
    observed = (unlike / (given - 1)).sum() / n
    expected = (values * (n - values)).sum() / (n * (n - 1))
    return float(1.0 - observed / expected)


def agreement(judges: Mapping[str, Codes]) -> dict[str, object]:
    """Every pair's kappa and the alpha of all, in the binary reading; values are None where undefined."""
    return {
        "kappa": {f"{a}/{b}": cohen_kappa(judges[a], judges[b]) for a, b in combinations(judges, 2)},
        "alpha": krippendorff_alpha(list(judges.values())) if len(judges) > 1 else None,
    }


def _read(codes: Codes, binary: bool) -> Codes:
    return np.where(codes == 1, np.int8(0), codes) if binary else codes
