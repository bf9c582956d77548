"""Mixture-of-experts against dense models: matched contrasts, and the null test of the instrument."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import t as student

from .board import Contrast, Contrasts, Estimate, GroupContrast, Model, NullTest
from .rows import Computed, Resamples, headline_column
from .statistics.draws import FloatArray
from .statistics.uncertainty import CONFIDENCE, bootstrap, estimates

__all__ = [
    "ACTIVE_BAND",
    "FEWEST_PAIRS",
    "contrasts",
    "hierarchical",
    "matched_pairs",
    "null_tests",
    "same_model",
    "widened",
]

FEWEST_PAIRS = 3
ACTIVE_BAND = 2.0


def same_model(model: Model, name: str | None) -> bool:
    """Whether a model goes by this name, or did."""
    return name is not None and (name == model.id or name in model.formerly)


def matched_pairs(
    models: Sequence[Model], band: float = ACTIVE_BAND
) -> list[tuple[int, int, Literal["base_model", "maker"]]]:
    """Match mixtures of experts with dense models, each used once: (moe, dense, matched by) as positions.

    Two models match when they share their base model or, failing that, their maker, and their active parameters are
    within a factor ``band``. Same base before same maker, nearer sizes first. A model and its exact upcycling are no
    contrast: they are the same function.
    """
    candidates = []
    for i, moe in enumerate(models):
        for j, dense in enumerate(models):
            if moe.architecture != "moe" or dense.architecture != "dense" or same_model(dense, moe.upcycled_from):
                continue
            by = _matched_by(moe, dense)
            if by is None or not moe.active_parameters or not dense.active_parameters:
                continue
            distance = abs(math.log(moe.active_parameters / dense.active_parameters))
            if distance <= math.log(band) + 1e-12:
                candidates.append((by == "maker", distance, moe.id, dense.id, i, j, by))
    found: list[tuple[int, int, Literal["base_model", "maker"]]] = []
    used: set[int] = set()
    for *_, i, j, by in sorted(candidates):
        if not used & {i, j}:
            used |= {i, j}
            found.append((i, j, by))
    return found


def _matched_by(moe: Model, dense: Model) -> Literal["base_model", "maker"] | None:
    shared = moe.base_model is not None and moe.base_model == dense.base_model
    if shared or same_model(dense, moe.base_model) or same_model(moe, dense.base_model):
        return "base_model"
    return "maker" if moe.maker and moe.maker == dense.maker else None


def contrasts(ranked: Sequence[Computed], resamples: Resamples | None, seed: int) -> Contrasts:
    """All matched contrasts of the ranked models and, from three of them on, the group's."""
    models = [one.submission.info.model for one in ranked]
    matched = matched_pairs(models)
    if resamples is None or not matched:
        return Contrasts([], _group(0, None))
    columns = [headline_column(one.submission.draws, one.pair_figures["refused"]) for one in ranked]
    differences = np.column_stack([columns[i] - columns[j] for i, j, _ in matched])
    found = estimates(bootstrap((differences + 1) / 2, resamples.weights, resamples.strata))
    pairs = [
        Contrast(
            moe=ranked[i].submission.info.id,
            dense=ranked[j].submission.info.id,
            matched_by=by,
            moe_active_parameters=models[i].active_parameters or 0,
            dense_active_parameters=models[j].active_parameters or 0,
            difference=widened(one),
        )
        for (i, j, by), one in zip(matched, found, strict=True)
    ]
    if len(matched) < FEWEST_PAIRS:
        return Contrasts(pairs, _group(len(matched), None))
    return Contrasts(pairs, _group(len(matched), hierarchical(differences, resamples.weights, seed)))


def widened(one: Estimate, scale: float = 1.0) -> Estimate:
    """Undo the map of differences, which lie in [-scale, scale], onto [0, 1]; what only rounding tells from 0 is 0."""

    def back(value: float | None) -> float | None:
        if value is None:
            return None
        own = scale * (2 * value - 1)
        return own if abs(own) > 1e-12 else 0.0

    return Estimate(back(one.value), back(one.low), back(one.high), back(one.percentile_low), back(one.percentile_high))


def hierarchical(differences: FloatArray, weights: FloatArray, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Mean difference over matched pairs of models, with both levels resampled.

    Every replicate takes the common resample of prompt pairs and, of the m matched pairs of models, m - 1 at random
    (the rescaling of Rao & Wu). With few matched pairs quantiles of replicates are too short, so the shown interval is
    the replicates' standard deviation times Student's t with m - 1 degrees of freedom; the percentile interval stands
    beside it.

    Args:
        differences: (prompt pairs, matched pairs); NaN where a pair has no value.
        weights: (replicates, prompt pairs).
        seed: of the resampling of matched pairs.
        confidence: of the two-sided intervals.
    """
    there = ~np.isnan(differences)
    m = differences.shape[1]
    means = np.nanmean(differences, axis=0)
    mass = weights @ there.astype(np.float64)
    per_pair = np.where(mass > 0, weights @ np.where(there, differences, 0.0) / np.where(mass > 0, mass, 1), means)
    picks = np.random.default_rng(seed).integers(0, m, size=(len(weights), m - 1))
    replicates = np.take_along_axis(per_pair, picks, axis=1).mean(axis=1)
    value = float(means.mean())
    reach = float(replicates.std(ddof=1) * student.ppf((1 + confidence) / 2, m - 1))
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach), float(low), float(high))


def _group(matched: int, difference: Estimate | None) -> GroupContrast:
    if difference is None or difference.low is None or difference.high is None or difference.value is None:
        why = (
            f"{matched} matched pair{'' if matched == 1 else 's'} of a mixture of experts and a dense model; "
            f"a claim about the groups needs at least {FEWEST_PAIRS}"
        )
        return GroupContrast(matched, None, "none", why)
    span = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] over {matched} matched pairs"
    if difference.low > 0:
        return GroupContrast(matched, difference, "moe_higher", f"mixtures of experts are more consistent: {span}")
    if difference.high < 0:
        return GroupContrast(matched, difference, "dense_higher", f"dense models are more consistent: {span}")
    return GroupContrast(matched, difference, "no_difference", f"no difference can be told: {span}")


def null_tests(computed: Sequence[Computed], resamples: Sequence[Resamples]) -> list[NullTest]:
    """Compare every exact upcycling with its dense model, where both were asked in the same way.

    Args:
        computed: all live submissions of the board.
        resamples: of each of them.
    """
    found = []
    for moe, weights in zip(computed, resamples, strict=True):
        for dense in computed:
            one, other = moe.submission.info, dense.submission.info
            alike = (one.prompts, one.scorer, one.setting) == (other.prompts, other.scorer, other.setting)
            if alike and same_model(other.model, one.model.upcycled_from):
                found.append(_null_test(dense, moe, weights))
    return found


def _null_test(dense: Computed, moe: Computed, resamples: Resamples) -> NullTest:
    columns = [headline_column(one.submission.draws, one.pair_figures["refused"]) for one in (moe, dense)]
    gap = columns[0] - columns[1]
    difference = widened(estimates(bootstrap((gap[:, None] + 1) / 2, resamples.weights, resamples.strata))[0])
    labels = [one.submission.verdicts[["label", "reason"]].fillna("").to_numpy() for one in (moe, dense)]
    agreement = float((labels[0] == labels[1]).all(axis=1).mean())
    identical = agreement == 1.0
    temperature = moe.submission.info.setting.temperature
    tie = identical or (
        difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high
    )
    if difference.value is None and not identical:
        why = "C@4 is undefined, so the test says nothing"
    elif identical:
        why = "every verdict is the same, as it must be for one function in two architectures"
    elif temperature == 0:
        why = f"{1 - agreement:.1%} of verdicts differ though sampling is greedy: the numerics of the two differ"
    elif tie:
        why = f"a tie within sampling error; {agreement:.1%} of verdicts are the same"
    else:
        why = "the interval leaves out 0: the instrument, or the upcycling, is at fault"
    return NullTest(
        dense=dense.submission.info.id,
        moe=moe.submission.info.id,
        temperature=temperature,
        difference=difference,
        agreement=agreement,
        tie=tie,
        identical=identical,
        why=why,
    )
