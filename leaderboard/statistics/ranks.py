"""Simultaneous confidence sets for ranks, tie groups and the resolution of a set of models.

Mogstad, Romano, Shaikh, Wilhelm, *Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic
Achievement across Countries*, Review of Economic Studies 91 (2024): simultaneous intervals for all differences bound
every rank from both sides.
"""

from dataclasses import dataclass

import numpy as np

from .draws import FloatArray, IntArray
from .uncertainty import CONFIDENCE

__all__ = ["Differences", "all_differences", "places", "rank_sets", "standard_errors", "tie_groups"]

CHUNK = 64  # replicates compared at a time: bounds the memory, not the result


@dataclass(frozen=True, slots=True)
class Differences:
    """All pairwise differences of M models.

    Attributes:
        value: (M,) the figure of each model.
        error: (M, M) standard error of each difference.
        critical: the max-t critical value that all intervals share; 0 where no difference has an error.
    """

    value: FloatArray
    error: FloatArray
    critical: float

    def above(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """(M, M): the row's model is above the column's, beyond doubt."""
        difference = self.value[:, None] - self.value[None, :]
        return np.asarray(difference > self.critical * self.error + 1e-12)


def standard_errors(values: FloatArray, strata: IntArray) -> FloatArray:
    """(M, M) standard errors of the differences of stratified means; a model's pairs without a value count as its mean.

    Args:
        values: (pairs, M); NaN where a pair has no value.
        strata: (pairs,).
    """
    centred = np.zeros_like(values)
    mean = np.nanmean(values, axis=0)
    there = ~np.isnan(values)
    # A left-out pair has no influence on a ratio of sums; the others have the more.
    influence = np.where(there, values - mean, 0.0) * (len(values) / there.sum(axis=0))
    for stratum in range(int(strata.max()) + 1):
        members = strata == stratum
        m = int(members.sum())
        centred[members] = (influence[members] - influence[members].mean(axis=0)) * np.sqrt(m / max(m - 1, 1))
    covariance = centred.T @ centred / len(values) ** 2
    variance = np.diag(covariance)
    squared = variance[:, None] + variance[None, :] - 2 * covariance
    scale = np.maximum(variance[:, None] + variance[None, :], 1e-30)
    return np.asarray(np.sqrt(np.where(squared > 1e-12 * scale, squared, 0.0)))


def all_differences(
    values: FloatArray, weights: FloatArray, strata: IntArray, confidence: float = CONFIDENCE
) -> Differences:
    """Compare every model with every other one under the common resamples.

    Args:
        values: (pairs, M) per-pair figures; NaN where a model has no value for a pair.
        weights: (replicates, pairs).
        strata: (pairs,).
        confidence: that all intervals hold at once.
    """
    there = ~np.isnan(values)
    value = np.nanmean(values, axis=0)
    error = standard_errors(values, strata)
    if not error.any():
        return Differences(value, error, 0.0)
    mass = weights @ there.astype(np.float64)
    deviation = np.divide(weights @ np.where(there, values - value, 0.0), mass, out=np.zeros_like(mass), where=mass > 0)
    deviation = deviation.astype(np.float32)
    scale = np.where(error > 0, 1 / np.where(error > 0, error, 1), 0).astype(np.float32)
    largest = np.empty(len(weights))
    models = values.shape[1]
    for start in range(0, len(weights), CHUNK):
        part = deviation[start : start + CHUNK]
        best = np.zeros(len(part), dtype=np.float32)
        for model in range(models - 1):
            gap = np.abs(part[:, model, None] - part[:, model + 1 :]) * scale[model, model + 1 :]
            np.maximum(best, gap.max(axis=1), out=best)
        largest[start : start + CHUNK] = best
    return Differences(value, error, float(np.quantile(largest, confidence, method="higher")))


def rank_sets(differences: Differences) -> IntArray:
    """(M, 2) first and last place that each model may have; all sets hold at once with the stated confidence."""
    above = differences.above()
    better, worse = above.sum(axis=0), above.sum(axis=1)
    return np.stack([better + 1, len(better) - worse], axis=1).astype(np.int64)


def places(value: FloatArray) -> IntArray:
    """Place of each model by its figure, 1 the best; equal figures (to 1e-12) share the better place."""
    return np.array([1 + int((value > own + 1e-12).sum()) for own in value], dtype=np.int64)


def tie_groups(differences: Differences) -> list[list[int]]:
    """Cut the models, best first, into groups whose members cannot be told apart from the group's first."""
    above = differences.above()
    groups: list[list[int]] = []
    for model in np.argsort(-differences.value, kind="stable"):
        if groups and not above[groups[-1][0], model]:
            groups[-1].append(int(model))
        else:
            groups.append([int(model)])
    return groups
