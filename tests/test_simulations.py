"""Worlds with a known truth: intervals cover, rank sets hold, soft figures are unbiased, corrections correct."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from demur.benchmark.records import SIDES
from demur.leaderboard.contrasts import hierarchical
from demur.leaderboard.correction import corrected
from demur.leaderboard.statistics.consistency import any_k_draws
from demur.leaderboard.statistics.draws import FloatArray
from demur.leaderboard.statistics.hazards import benjamini_hochberg
from demur.leaderboard.statistics.ranks import all_differences, places, rank_sets
from demur.leaderboard.statistics.uncertainty import bootstrap, strata_of, stratified_weights
from demur.tests.boards import hazard_map, submission, verdict_rows
from demur.tests.simulations import K, World, curves, right_answers, strata

MODERATE, GOOD, BEST = World(2.5, 2.5), World(3.5, 2.5), World(4.5, 4.5)


def coverage(world: World, pairs_per_hazard: int, k: int, benchmarks: int, method: str = "bca") -> float:
    """Share of made benchmarks whose 95 % interval holds the true C@k."""
    at = strata(pairs_per_hazard)
    weights = stratified_weights(at, 2000, 1)
    truth = world.truth()[k - 1]
    generator = np.random.default_rng(17)
    values = np.column_stack(
        [
            curves(right_answers(world.chances(pairs_per_hazard, generator), generator))[:, k - 1]
            for _ in range(benchmarks)
        ]
    )
    low, high = getattr(bootstrap(values, weights, at), method)
    return float(((low <= truth) & (truth <= high)).mean())


def test_intervals_cover_in_a_small_world() -> None:
    assert 0.92 <= coverage(MODERATE, 8, 4, 300) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("world", [MODERATE, GOOD, BEST], ids=["moderate", "good", "best"])
@pytest.mark.parametrize("pairs_per_hazard", [8, 48])
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_headline_intervals_cover_between_93_and_97_percent(world: World, pairs_per_hazard: int, method: str) -> None:
    assert 0.93 <= coverage(world, pairs_per_hazard, 4, 2000, method) <= 0.97


def rank_set_hits(levels: FloatArray, pairs_per_hazard: int, benchmarks: int) -> float:
    """Share of made benchmarks in which the sets of all models hold their true places at once."""
    at = strata(pairs_per_hazard)
    weights = stratified_weights(at, 2000, 1)
    worlds = [World(level, level) for level in levels]
    true_places = places(np.asarray(levels))
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(benchmarks):
        shared = 0.8 * generator.standard_normal((10 * pairs_per_hazard, 2, 1))
        values = [
            curves(right_answers(w.chances(pairs_per_hazard, generator, shared), generator))[:, 3] for w in worlds
        ]
        sets = rank_sets(all_differences(np.column_stack(values), weights, at))
        hits += bool(((sets[:, 0] <= true_places) & (true_places <= sets[:, 1])).all())
    return hits / benchmarks


def test_rank_sets_hold_the_true_places_in_a_small_world() -> None:
    assert rank_set_hits(np.linspace(1.0, 3.5, 6), 8, 60) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("pairs_per_hazard", [8, 48])
@pytest.mark.parametrize("step", [0.05, 0.35], ids=["close", "spread"])
def test_rank_sets_hold_the_true_places(step: float, pairs_per_hazard: int) -> None:
    assert rank_set_hits(2.5 + step * np.arange(8), pairs_per_hazard, 500) >= 0.95


def scored_worlds(benchmarks: int) -> Iterator[tuple[float, float, float]]:
    """True, hard and soft C@4 where the scorer's probabilities are calibrated and its labels are p > 1/2."""
    generator = np.random.default_rng(23)
    for _ in range(benchmarks):
        chance = MODERATE.chances(8, generator)
        leaning = np.repeat(chance, K // chance.shape[2], axis=2)
        # p is the scorer's calibrated probability; the truth is drawn from it.
        p = generator.beta(2 * leaning + 0.05, 2 * (1 - leaning) + 0.05)
        truth = (generator.random(p.shape) < p).sum(axis=2)
        soft = any_k_draws(p, K)[..., 3]
        yield (
            float(curves(truth)[:, 3].mean()),
            float(curves((p > 0.5).sum(axis=2))[:, 3].mean()),
            float((soft[:, 0] * soft[:, 1]).mean()),
        )


def test_soft_figures_are_unbiased_and_hard_ones_are_not() -> None:
    true, hard, soft = np.array(list(scored_worlds(300))).T
    assert abs(stats.ttest_rel(soft, true).statistic) < 4
    assert stats.ttest_rel(hard, true).statistic > 20, "labels at the likelier side hide the scorer's doubt"
    assert (hard - true).mean() > 0.05


def labelled_worlds(
    benchmarks: int, sensitivity: float, specificity: dict[str, float]
) -> Iterator[tuple[float, float, float, float, bool]]:
    """True, naive, powered and Rogan-Gladen over-refusal rate, and whether the powered interval holds the true one."""
    hazards = hazard_map(8)
    weights = stratified_weights(strata_of([hazards[pair] for pair in sorted(hazards)]), 400, 3)
    generator = np.random.default_rng(29)
    for seed in range(benchmarks):
        rows = verdict_rows(hazards, refuse=0.8, over_refuse=0.15, seed=seed)
        human = rows["label"].replace("partial", "refused")
        side = rows["prompt_id"].str.rsplit("/", n=2).str[1]
        right = np.where(human == "refused", sensitivity, side.map(specificity))
        wrong = generator.random(len(rows)) > right
        rows["label"] = np.where(wrong, np.where(human == "refused", "complied", "refused"), human)
        one = submission(rows, hazards)
        labelled = rows.assign(label=human).sample(200, random_state=seed)[["prompt_id", "sample", "label"]]
        found = corrected(one, labelled, weights)
        assert found is not None
        powered, rogan = found.over_refusal_rate, found.rogan_gladen_over_refusal_rate
        true = float((human[side == SIDES[1]] == "refused").mean())
        naive = one.info.figures.refused.over_refusal_rate
        assert None not in (naive, powered.value, powered.low, powered.high, rogan.value)
        yield true, naive, powered.value, rogan.value, powered.low <= 0.15 <= powered.high  # type: ignore[misc, operator]


def test_corrections_remove_the_bias_of_a_bad_scorer() -> None:
    found = np.array(list(labelled_worlds(25, 0.9, {"harmful": 0.85, "benign": 0.85})))
    true, naive, powered, rogan, covered = found.T
    assert (naive - true).mean() > 0.08
    assert abs(stats.ttest_rel(powered, true).statistic) < 4
    assert abs((rogan - true).mean()) < 0.02
    assert covered.mean() > 0.85


def test_prediction_power_holds_where_errors_differ_between_sides() -> None:
    """The scorer calls benign answers refusals more often: one specificity for both sides misleads."""
    found = np.array(list(labelled_worlds(25, 0.95, {"harmful": 0.98, "benign": 0.75})))
    true, _, powered, rogan, _ = found.T
    assert abs(stats.ttest_rel(powered, true).statistic) < 4
    assert (rogan - true).mean() > 0.02


@pytest.mark.slow
def test_powered_intervals_cover() -> None:
    covered = [one[4] for one in labelled_worlds(250, 0.9, {"harmful": 0.85, "benign": 0.85})]
    assert 0.91 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("matched", [3, 5, 10])
def test_group_intervals_cover_at_least_as_stated(matched: int) -> None:
    """Resampling both levels counts the noise of single cells more than once, so the interval is cautious."""
    at = strata(8)
    weights = stratified_weights(at, 400, 1)
    generator = np.random.default_rng(31)
    hits = 0
    for seed in range(200):
        effect = 0.05 + 0.08 * generator.standard_normal(matched)
        noise = 0.3 * generator.standard_normal((80, matched)) + 0.1 * generator.standard_normal((80, 1))
        found = hierarchical(effect + noise, weights, seed)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.05 <= found.high
    assert hits / 200 >= 0.94


def test_false_discoveries_stay_below_the_level() -> None:
    generator = np.random.default_rng(37)
    shares = []
    for _ in range(400):
        null = generator.random(80)
        real = stats.norm.sf(generator.normal(3, 1, 20)) * 2
        found = benjamini_hochberg(np.concatenate([null, np.minimum(real, 1)])) < 0.1
        shares.append(found[:80].sum() / max(found.sum(), 1))
    assert np.mean(shares) <= 0.1


def test_an_exact_twin_ties_nearly_always() -> None:
    """The same function sampled twice: the interval of the difference leaves out 0 as rarely as it should."""
    at = strata(8)
    weights = stratified_weights(at, 1000, 1)
    generator = np.random.default_rng(41)
    gaps = []
    for _ in range(400):
        chance = GOOD.chances(8, generator)
        one, other = (curves(right_answers(chance, generator))[:, 3] for _ in range(2))
        gaps.append((one - other + 1) / 2)
    low, high = bootstrap(np.column_stack(gaps), weights, at).bca
    assert 0.92 <= float(((low <= 0.5) & (high >= 0.5)).mean()) <= 0.98


def test_the_made_tables_have_the_rates_they_should() -> None:
    hazards = hazard_map(40)
    found = submission(verdict_rows(hazards, refuse=0.8, over_refuse=0.2, seed=1), hazards).info.figures.refused
    assert found.refusal_rate == pytest.approx(0.8, abs=0.03)
    assert found.over_refusal_rate == pytest.approx(0.2, abs=0.03)
