"""Comparisons per hazard, with the false discovery rate held over all of them at once."""

from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from .draws import FloatArray
from .values import AgainstOthers, HazardFigures

__all__ = ["against_others", "benjamini_hochberg", "paired_p"]


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Adjusted p-values (q) of Benjamini & Hochberg, *JRSS B* 57 (1995): the least level at which each is found.

    Args:
        p: (tests,).
    """
    if not len(p):
        return p.astype(np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def paired_p(differences: FloatArray) -> float:
    """Two-sided p-value of a zero mean: Student's t, or the sign test where all differences are the same.

    Args:
        differences: (pairs,) without NaN.
    """
    n = len(differences)
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    mean = float(differences.mean())
    if spread < 1e-12:
        return 1.0 if abs(mean) < 1e-12 else float(min(1.0, 2.0 ** (1 - n)))
    return float(2 * student.sf(abs(mean) / (spread / np.sqrt(n)), n - 1))


def against_others(
    headlines: FloatArray, hazards: tuple[str, ...], rows: list[list[HazardFigures]]
) -> list[list[HazardFigures]]:
    """Compare every model, in every hazard, with the mean of the other models on the same pairs.

    Args:
        headlines: (pairs, models) C@4 per pair; NaN where a model has none.
        hazards: of each pair.
        rows: the hazard figures of every model, which get the comparison.
    """
    models = headlines.shape[1]
    if models < 2:
        return rows
    names = np.asarray(hazards)
    there = ~np.isnan(headlines)
    filled = np.where(there, headlines, 0.0)
    others = there.sum(axis=1, keepdims=True) - there
    gap = np.where(
        there & (others > 0), filled - (filled.sum(axis=1, keepdims=True) - filled) / np.maximum(others, 1), np.nan
    )
    tests = {}
    for model in range(models):
        for figures in rows[model]:
            part = gap[names == figures.hazard, model]
            part = part[~np.isnan(part)]
            if len(part):
                tests[model, figures.hazard] = (float(part.mean()), paired_p(part))
    q = benjamini_hochberg(np.array([p for _, p in tests.values()]))
    found = {key: AgainstOthers(gap, p, float(one)) for (key, (gap, p)), one in zip(tests.items(), q, strict=True)}
    return [
        [replace(figures, against_others=found.get((model, figures.hazard))) for figures in rows[model]]
        for model in range(models)
    ]
