"""Intervals from one set of resamples that every model shares.

The resampled unit is the pair, within its hazard. A figure that is a mean over pairs needs no loop: one matrix product
of weights (replicates x pairs) with values (pairs x columns) gives every replicate of every model at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from .draws import FloatArray, IntArray
from .values import Estimate

__all__ = ["CONFIDENCE", "REPLICATES", "SEED", "Intervals", "bootstrap", "estimates", "strata_of", "stratified_weights"]

REPLICATES = 10_000
CONFIDENCE = 0.95
SEED = 20250

BLOCK = 512  # columns resampled at a time: bounds the memory, not the result


@dataclass(frozen=True, slots=True)
class Intervals:
    """Estimates and intervals of many columns, each (columns,); NaN where a column has no defined value."""

    value: FloatArray
    bca: FloatArray
    percentile: FloatArray


def strata_of(hazards: Sequence[str]) -> IntArray:
    """Stratum number of every pair: its hazard.

    Hazards with a single pair show no spread of their own; they are pooled into one stratum, and where that again has
    a single pair it joins the smallest other one.
    """
    names, at, sizes = np.unique(np.asarray(hazards, dtype=object), return_inverse=True, return_counts=True)
    lone = np.flatnonzero(sizes == 1)
    target = np.arange(len(names))
    if len(lone) == 1 and len(names) > 1:
        others = np.where(sizes > 1, sizes, sizes.max() + 1)
        target[lone] = int(np.argmin(others))
    elif len(lone) > 1:
        target[lone] = lone[0]
    return np.unique(target[at], return_inverse=True)[1].astype(np.int64)


def stratified_weights(
    strata: IntArray, replicates: int = REPLICATES, seed: int = SEED, *, rescaled: bool = True
) -> FloatArray:
    """Resampling weights, (replicates, pairs); each row adds up to the number of pairs within every stratum.

    Args:
        strata: (pairs,) stratum numbers.
        replicates: how many resamples.
        seed: of the generator; the same seed gives the same resamples.
        rescaled: draw m - 1 of a stratum's m pairs and weight them m / (m - 1) (Rao & Wu, *JASA* 83, 1988), which
            makes the bootstrap variance of a stratified mean unbiased. Plain resampling (m of m) is too small by
            (m - 1) / m: an eighth with 8 pairs a hazard.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((replicates, len(strata)))
    for stratum in range(int(strata.max()) + 1 if len(strata) else 0):
        members = np.flatnonzero(strata == stratum)
        m = len(members)
        drawn = m - 1 if rescaled and m > 1 else m
        picks = generator.integers(0, m, size=(replicates, drawn)) + m * np.arange(replicates)[:, None]
        weights[:, members] = np.bincount(picks.ravel(), minlength=replicates * m).reshape(replicates, m) * (m / drawn)
    return weights


def bootstrap(values: FloatArray, weights: FloatArray, strata: IntArray, confidence: float = CONFIDENCE) -> Intervals:
    """Mean over pairs of every column, with percentile and BCa intervals.

    BCa: Efron, *JASA* 82 (1987); the acceleration is that of the stratified mean from its influence values, as
    ``scipy.stats.bootstrap`` has it for several samples. A column whose pairs all are 0 or all are 1 has no spread to
    resample; there the interval is the exact binomial bound, since P(all N pairs are 1) <= mean^N. Another column with
    a single pair has no interval.

    Args:
        values: (pairs, columns); NaN where a pair has no value in a column. The mean is over the others.
        weights: (replicates, pairs) from :func:`stratified_weights`.
        strata: (pairs,) the strata of the weights.
        confidence: of the two-sided intervals.
    """
    columns = values.shape[1]
    found = Intervals(np.full(columns, np.nan), np.full((2, columns), np.nan), np.full((2, columns), np.nan))
    for start in range(0, columns, BLOCK):
        block = slice(start, start + BLOCK)
        value, bca, percentile = _block(values[:, block], weights, strata, confidence)
        found.value[block], found.bca[:, block], found.percentile[:, block] = value, bca, percentile
    return found


def _block(
    values: FloatArray, weights: FloatArray, strata: IntArray, confidence: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    filled = np.where(there, values, 0.0)
    value = filled.sum(axis=0) / np.where(count, count, np.nan)
    replicates = filled.T @ weights.T
    mass = weights.sum(axis=1)[None, :] if there.all() else there.T.astype(np.float64) @ weights.T
    if mass.min() > 0:
        replicates /= mass
    else:
        # A resample without any of a column's pairs says nothing; it stands at the estimate.
        replicates = np.where(mass > 0, replicates / np.where(mass > 0, mass, 1), value[:, None])
    tail = (1 - confidence) / 2
    tails = np.repeat([[tail], [1 - tail]], values.shape[1], axis=1)
    # Replicates equal to the estimate up to rounding are ties, half of which count as below (as scipy does).
    near = 1e-12 * np.maximum(np.abs(value), 1e-3)
    below = (
        (replicates < (value - near)[:, None]).sum(axis=1) + (replicates <= (value + near)[:, None]).sum(axis=1)
    ) / 2
    z0 = ndtri(np.clip(below / len(weights), 0.5 / len(weights), 1 - 0.5 / len(weights)))
    shifted = z0 + ndtri(tails)
    adjusted = ndtr(z0 + shifted / (1 - _acceleration(values, strata) * shifted))
    quantiles = _quantiles(replicates, np.concatenate([adjusted, tails]))
    extremes = np.where(there, values, 0.5)
    ones, zeros = (extremes == 1).sum(axis=0) == count, (extremes == 0).sum(axis=0) == count
    reach = tail ** (1 / np.where(count, count, np.nan))
    exact = np.where(ones, np.stack([reach, np.ones_like(reach)]), np.stack([np.zeros_like(reach), 1 - reach]))
    flat = (ones | zeros) & (count > 0)
    quantiles[:, count < 2] = np.nan
    quantiles = np.where(flat, np.concatenate([exact, exact]), quantiles)
    return value, quantiles[:2], quantiles[2:]


def _acceleration(values: FloatArray, strata: IntArray) -> FloatArray:
    second = np.zeros(values.shape[1])
    third = np.zeros(values.shape[1])
    for stratum in range(int(strata.max()) + 1):
        part = values[strata == stratum]
        there = ~np.isnan(part)
        mean = np.where(there, part, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        deviation = np.where(there, part - mean, 0.0)
        second += (deviation**2).sum(axis=0)
        third += (deviation**3).sum(axis=0)
    return np.divide(third, 6 * second**1.5, out=np.zeros_like(third), where=second > 1e-24)


def _quantiles(rows: FloatArray, at: FloatArray) -> FloatArray:
    """Linear-interpolation quantiles of each row, each at its own probabilities.

    Args:
        rows: (columns, replicates); sorted in place.
        at: (quantiles, columns) probabilities.
    """
    rows.sort(axis=1)
    place = at * (rows.shape[1] - 1)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, rows.shape[1] - 1)
    column = np.arange(rows.shape[0])
    start = rows[column, lower]
    return np.asarray(start + (rows[column, upper] - start) * (place - lower))


def estimates(found: Intervals) -> list[Estimate]:
    """The columns as records, None where a value is undefined."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return [
        Estimate(number(value), *(number(end) for end in bca), *(number(end) for end in percentile))
        for value, bca, percentile in zip(found.value, found.bca.T, found.percentile.T, strict=True)
    ]
