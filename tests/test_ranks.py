"""Rank sets, tie groups, comparisons per hazard: against plain loops and known orders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from demur.leaderboard.statistics.hazards import against_others, benjamini_hochberg, paired_p
from demur.leaderboard.statistics.ranks import (
    Differences,
    all_differences,
    places,
    rank_sets,
    standard_errors,
    tie_groups,
)
from demur.leaderboard.statistics.uncertainty import stratified_weights
from demur.leaderboard.statistics.values import Estimate, HazardFigures
from demur.tests.simulations import strata


def test_standard_errors_are_those_of_stratified_differences() -> None:
    generator = np.random.default_rng(0)
    values, at = generator.random((40, 4)), strata(8, 5)
    found = standard_errors(values, at)
    for i in range(4):
        for j in range(4):
            gap = values[:, i] - values[:, j]
            expected = np.sqrt(sum(gap[at == h].var(ddof=1) * 8 for h in range(5))) / 40
            assert found[i, j] == pytest.approx(expected, abs=1e-12)


def test_the_critical_value_is_the_largest_studentised_difference() -> None:
    generator = np.random.default_rng(1)
    values, at = generator.random((24, 5)), strata(8, 3)
    weights = stratified_weights(at, 400, 2)
    found = all_differences(values, weights, at)
    means = values.mean(axis=0)
    largest = []
    for row in weights:
        deviation = row @ values / 24 - means
        largest.append(max(abs(deviation[i] - deviation[j]) / found.error[i, j] for i in range(5) for j in range(i)))
    assert found.critical == pytest.approx(np.quantile(largest, 0.95, method="higher"), rel=1e-5)


def test_clear_orders_are_ranked_and_ties_are_ties() -> None:
    generator = np.random.default_rng(2)
    at = strata(48)
    base = generator.random(480)
    values = np.column_stack([0.3 * base, 0.6 + 0.3 * base, 0.3 * base, 0.3 + 0.3 * generator.random(480)])
    found = all_differences(values, stratified_weights(at, 2000, 0), at)
    assert rank_sets(found).tolist() == [[3, 4], [1, 1], [3, 4], [2, 2]]
    assert places(found.value).tolist() == [3, 1, 3, 2]
    assert tie_groups(found) == [[1], [3], [0, 2]]


def test_no_spread_at_all() -> None:
    at = strata(8)
    found = all_differences(
        np.column_stack([np.zeros(80), np.zeros(80), np.ones(80)]), stratified_weights(at, 50, 0), at
    )
    assert found.critical == 0.0
    assert rank_sets(found).tolist() == [[2, 3], [2, 3], [1, 1]]


def test_one_model_is_first_and_last() -> None:
    at = strata(8)
    found = all_differences(np.random.default_rng(0).random((80, 1)), stratified_weights(at, 50, 0), at)
    assert (rank_sets(found).tolist(), tie_groups(found), places(found.value).tolist()) == ([[1, 1]], [[0]], [1])


@given(st.integers(1, 12), st.floats(0, 3), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_rank_sets_hold_the_places_and_groups_hold_every_model(models: int, critical: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    error = generator.random((models, models))
    found = Differences(generator.random(models), (error + error.T) / 2 * (1 - np.eye(models)), critical)
    sets, place = rank_sets(found), places(found.value)
    assert (sets[:, 0] <= place).all()
    assert (place <= sets[:, 1]).all()
    assert sorted(model for group in tie_groups(found) for model in group) == list(range(models))


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_benjamini_hochberg_agrees_with_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(np.array(p)) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


def test_paired_p_agrees_with_scipy_and_has_edges() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, 20)
    assert paired_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=1e-12)
    assert paired_p(np.zeros(8)) == 1.0
    assert paired_p(np.ones(8)) == 2.0**-7
    assert paired_p(np.ones(1)) == 1.0


def test_models_are_compared_with_the_mean_of_the_others() -> None:
    generator = np.random.default_rng(5)
    headlines = generator.random((20, 3))
    headlines[:10, 0] = 1.0
    headlines[3, 1] = np.nan
    hazards = ("a",) * 10 + ("b",) * 10
    rows = [[HazardFigures(name, 10, *[Estimate(0.5)] * 3, None) for name in "ab"] for _ in range(3)]
    found = against_others(headlines, hazards, rows)
    others = np.nanmean(headlines[:10, 1:], axis=1)
    gap = found[0][0].against_others
    assert gap is not None
    assert gap.difference == pytest.approx(float((1 - others).mean()))
    assert gap.p == pytest.approx(stats.ttest_1samp(1 - others, 0).pvalue)
    p = [one.against_others.p for model in found for one in model if one.against_others]
    q = [one.against_others.q for model in found for one in model if one.against_others]
    assert q == pytest.approx(stats.false_discovery_control(p))
    assert against_others(headlines[:, :1], hazards, rows[:1]) == rows[:1], "one model has no others"
