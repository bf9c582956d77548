"""From per-pair figures to the rows of a board: point figures, intervals, hazards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .board import Corrected, CurvePoint, Estimate, HazardFigures, ReadingFigures, Row, Soft, State, Tier
from .correction import corrected
from .statistics.consistency import RANKING_K, soft_curve
from .statistics.draws import READINGS, Draws, FloatArray, IntArray, Reading
from .statistics.figures import RATES, Figures, PairFigures, ReadingPoints, figures, pair_figures
from .statistics.uncertainty import bootstrap, estimates, strata_of, stratified_weights
from .stress import stress_report
from .submissions.submitted import Submission

__all__ = ["Computed", "Resamples", "compute", "headline_column", "make_row", "resamples_of"]

UNDEFINED = Estimate(None)


@dataclass(frozen=True, slots=True)
class Resamples:
    """The weights that all submissions on the same pairs share.

    Attributes:
        weights: (replicates, pairs).
        by_hazard: hazard to the positions of its pairs and their weights.
    """

    pairs: tuple[str, ...]
    strata: IntArray
    weights: FloatArray
    by_hazard: dict[str, tuple[IntArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class Computed:
    """Everything computed of one submission on its own.

    Attributes:
        figures: point figures, recomputed from the rows.
        pair_figures: per reading.
        soft: soft C@k per pair, (pairs, draws); None where the rows have no probabilities.
        intervals: per reading the estimates of curve and rates, in that order.
        soft_intervals: estimates of the soft curve.
        hazards: figures of each hazard, without comparison.
        corrected: rates corrected with human labels, where there are any.
    """

    submission: Submission
    figures: Figures
    pair_figures: dict[Reading, PairFigures]
    soft: FloatArray | None
    intervals: dict[Reading, list[Estimate]]
    soft_intervals: list[Estimate]
    hazards: list[HazardFigures]
    corrected: Corrected | None


def resamples_of(draws: Draws, replicates: int, seed: int) -> Resamples:
    """Draw the resamples for one set of pairs; they depend on pairs, hazards and seed alone."""
    strata = strata_of(draws.hazards)
    weights = stratified_weights(strata, replicates, seed)
    names = np.asarray(draws.hazards)
    by_hazard = {}
    for hazard in sorted(set(draws.hazards)):
        at = np.flatnonzero(names == hazard)
        by_hazard[hazard] = (at, np.ascontiguousarray(weights[:, at]))
    return Resamples(draws.pairs, strata, weights, by_hazard)


def headline_column(draws: Draws, of_pairs: PairFigures) -> FloatArray:
    """C@4 of every pair, (pairs,); all NaN where fewer draws were planned."""
    if draws.planned < RANKING_K:
        return np.full(len(draws.pairs), np.nan)
    return of_pairs.curve.values[:, RANKING_K - 1]


def compute(submission: Submission, resamples: Resamples, human: pd.DataFrame | None = None) -> Computed:
    """All figures and intervals of one submission; ``human`` as in :func:`.correction.corrected`."""
    draws = submission.draws
    readings = {reading: pair_figures(draws, reading) for reading in READINGS}
    soft = soft_curve(draws)
    blocks = [np.hstack([of.curve.values, of.rates]) for of in readings.values()]
    if soft is not None:
        blocks.append(soft.values)
    found = estimates(bootstrap(np.hstack(blocks), resamples.weights, resamples.strata))
    width = draws.planned + len(RATES)
    intervals = {reading: found[at * width : (at + 1) * width] for at, reading in enumerate(READINGS)}
    return Computed(
        submission=submission,
        figures=figures(draws),
        pair_figures=readings,
        soft=None if soft is None else soft.values,
        intervals=intervals,
        soft_intervals=found[2 * width :],
        hazards=_hazards(draws, readings["refused"], resamples),
        corrected=None if human is None else corrected(submission, human, resamples.weights),
    )


def _hazards(draws: Draws, of_pairs: PairFigures, resamples: Resamples) -> list[HazardFigures]:
    columns = np.column_stack([headline_column(draws, of_pairs), of_pairs.rates[:, :2]])
    found = []
    for hazard, (at, weights) in resamples.by_hazard.items():
        strata = np.zeros(len(at), dtype=np.int64)
        headline, refusal, over = estimates(bootstrap(columns[at], weights, strata))
        found.append(HazardFigures(hazard, len(strata), headline, refusal, over, None))
    return found


def make_row(
    computed: Computed,
    *,
    state: State,
    why: str | None,
    tier: Tier,
    rank: int | None = None,
    rank_set: Sequence[int] | None = None,
    tie_group: int | None = None,
    hazards: list[HazardFigures] | None = None,
) -> Row:
    """Put what was computed and what the ranking found into one row."""
    info, draws, points = computed.submission.info, computed.submission.draws, computed.figures
    refused = _reading(points.refused, computed.intervals["refused"], draws.planned)
    headline = computed.intervals["refused"][RANKING_K - 1] if draws.planned >= RANKING_K else UNDEFINED
    return Row(
        id=info.id,
        state=state,
        why=why,
        tier=tier,
        created_at=info.created_at,
        package_version=info.package_version,
        notes=info.notes,
        model=info.model,
        setting=info.setting,
        scorer=info.scorer,
        prompts=info.prompts,
        rank=rank,
        rank_set=None if rank_set is None else [int(place) for place in rank_set],
        tie_group=tie_group,
        headline=headline,
        refused=refused,
        strict=_reading(points.strict, computed.intervals["strict"], draws.planned),
        soft=_soft(computed, headline),
        corrected=computed.corrected,
        stability=points.stability,
        coverage=points.coverage,
        hazards=computed.hazards if hazards is None else hazards,
        stress=None if computed.submission.stress is None else stress_report(computed.submission.stress),
        rescored=computed.submission.rescored,
        agreement=info.agreement,
    )


def _reading(points: ReadingPoints, found: list[Estimate], planned: int) -> ReadingFigures:
    return ReadingFigures(
        **dict(zip(RATES, found[planned:], strict=True)),
        curve=_curve(found[:planned]),
        pairs=points.pairs,
        pairs_short=points.pairs_short,
        bounds=points.bounds,
        agreement=points.agreement,
        variance_shares_harmful=points.variance_shares_harmful,
        variance_shares_benign=points.variance_shares_benign,
        alpha=points.alpha,
    )


def _curve(found: Sequence[Estimate]) -> list[CurvePoint]:
    return [
        CurvePoint(k, one.value, one.low, one.high, one.percentile_low, one.percentile_high)
        for k, one in enumerate(found, 1)
    ]


def _soft(computed: Computed, headline: Estimate) -> Soft | None:
    if computed.soft is None:
        return None
    curve = _curve(computed.soft_intervals)
    value = curve[RANKING_K - 1].value if len(curve) >= RANKING_K else None
    if value is None or headline.value is None:
        return Soft(value, None, flag=False, curve=curve)
    difference = headline.value - value
    width = (headline.high or 0.0) - (headline.low or 0.0)
    return Soft(value, difference, flag=headline.low is not None and abs(difference) > width / 2, curve=curve)
