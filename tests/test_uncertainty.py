"""Intervals: against scipy, against plain loops, and at the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from demur.leaderboard.statistics.uncertainty import bootstrap, estimates, strata_of, stratified_weights
from demur.tests.simulations import strata


def test_weights_keep_every_stratum_and_every_seed() -> None:
    at = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    for rescaled in (True, False):
        weights = stratified_weights(at, 500, seed=3, rescaled=rescaled)
        for stratum in range(3):
            assert weights[:, at == stratum].sum(axis=1) == pytest.approx(np.full(500, (at == stratum).sum()))
        assert (weights == stratified_weights(at, 500, seed=3, rescaled=rescaled)).all()
        assert weights.mean(axis=0) == pytest.approx(np.ones(9), abs=0.2)


def test_rescaled_weights_have_the_unbiased_variance() -> None:
    generator = np.random.default_rng(0)
    values, at = generator.random(32), strata(8, 4)
    unbiased = sum(values[at == h].var(ddof=1) / 8 for h in range(4)) / 16
    rescaled = (stratified_weights(at, 40_000, 1) @ values / 32).var()
    plain = (stratified_weights(at, 40_000, 1, rescaled=False) @ values / 32).var()
    assert rescaled == pytest.approx(unbiased, rel=0.03)
    assert plain == pytest.approx(unbiased * 7 / 8, rel=0.03)


def test_lone_pairs_are_pooled() -> None:
    assert strata_of(["a", "a", "b", "c"]).tolist() == [0, 0, 1, 1]
    assert strata_of(["a", "a", "b"]).tolist() == [0, 0, 0]
    assert len(set(strata_of(list("abcdefghij")).tolist())) == 1
    assert strata_of(["b", "a", "b", "a"]).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_intervals_agree_with_scipy_to_monte_carlo_error(method: str) -> None:
    generator = np.random.default_rng(1)
    at, replicates = strata(12, 5), 20_000
    values = generator.beta(0.6, 0.2, (60, 3))
    found = bootstrap(values, stratified_weights(at, replicates, 2, rescaled=False), at)
    ours = found.bca if method == "BCa" else found.percentile
    for column in range(3):
        samples = [values[at == h, column] for h in range(5)]

        def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
            return sum(part.mean(axis=axis) for part in parts) / 5

        theirs = stats.bootstrap(
            samples, mean, n_resamples=replicates, method=method, vectorized=True, batch=2000, rng=generator
        ).confidence_interval
        spread = float(found.percentile[1, column] - found.percentile[0, column]) / 3.92
        # Standard error of a 2.5 % quantile from R replicates: sqrt(p (1 - p) / R) / density, here 0.019 sd twice.
        assert ours[0, column] == pytest.approx(theirs.low, abs=4 * 0.027 * spread)
        assert ours[1, column] == pytest.approx(theirs.high, abs=4 * 0.027 * spread)


def test_blocks_and_holes_agree_with_a_plain_loop() -> None:
    generator = np.random.default_rng(4)
    at = strata(6, 3)
    values = generator.random((18, 700))
    values[generator.random((18, 700)) < 0.1] = np.nan
    weights = stratified_weights(at, 300, 5)
    found = bootstrap(values, weights, at)
    for column in (0, 511, 512, 699):
        own = values[:, column]
        there = ~np.isnan(own)
        means = [np.average(own[there], weights=row[there]) for row in weights]
        assert found.value[column] == pytest.approx(own[there].mean(), abs=1e-12)
        assert found.percentile[:, column] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_intervals_hold_the_estimate_and_stay_in_range(values: list[float], seed: int) -> None:
    column = np.array(values)[:, None]
    at = np.zeros(len(values), dtype=np.int64)
    (found,) = estimates(bootstrap(column, stratified_weights(at, 200, seed), at))
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9 or found.value in (0, 1)


def test_no_spread_gives_the_exact_bound_not_a_point() -> None:
    at = strata(8)
    weights = stratified_weights(at, 200, 0)
    columns = np.column_stack([np.ones(80), np.zeros(80), np.full(80, 0.5), np.full(80, np.nan)])
    one, zero, half, none = estimates(bootstrap(columns, weights, at))
    assert (one.low, one.high) == (pytest.approx(0.025 ** (1 / 80)), 1.0)
    assert (zero.low, zero.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 80)))
    assert stats.binomtest(80, 80).proportion_ci(0.95, "exact").low == pytest.approx(one.low)
    assert (half.low, half.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (none.value, none.low, none.percentile_high) == (None, None, None)


def test_one_pair_has_no_interval() -> None:
    (found,) = estimates(bootstrap(np.array([[0.4]]), np.ones((100, 1)), np.zeros(1, dtype=np.int64)))
    assert (found.value, found.low, found.high) == (0.4, None, None)
