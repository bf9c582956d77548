"""Agreement, variance shares, alpha and the literature's indices against definitions written out."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.leaderboard.statistics.agreement import (
    agreement,
    alpha,
    alpha_of_labels,
    nested_shares,
    nominal_alpha,
    stability,
    stability_of,
    variance_shares,
)
from demur.leaderboard.statistics.draws import count_draws
from demur.tests import plain
from demur.tests.test_consistency import SCORED, table_of, tables, uniform


@given(tables(labels=(*SCORED, "unscored")))
@settings(max_examples=25, deadline=None)
def test_agreement_counts_couples(table: pd.DataFrame) -> None:
    found = agreement(count_draws(table), "refused")
    for kind, wording in ((found.sampling, False), (found.wording, True)):
        for name, side in (("all", None), ("harmful", "harmful"), ("benign", "benign")):
            expected = plain.agreement(table, wording=wording, side=side)
            assert getattr(kind, name) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 4), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_components_agree_with_the_balanced_formulas(a: int, b: int, n: int, random: object) -> None:
    y = [[[random.randint(0, 1) for _ in range(n)] for _ in range(b)] for _ in range(a)]  # type: ignore[attr-defined]
    found = nested_shares(np.array(y).sum(axis=2), np.full((a, b), n))
    parts = plain.balanced_components(y)
    assert found.total == pytest.approx(sum(parts), abs=1e-12)
    if abs(sum(parts)) > 1e-9:
        for share, part in zip((found.pairs, found.variants, found.samples), parts, strict=True):
            assert share == pytest.approx(part / sum(parts), abs=1e-9)


def test_components_are_unbiased_in_an_unbalanced_design() -> None:
    """The variances of a made world are found on average, though draws are missing at random."""
    generator = np.random.default_rng(5)
    sd_pair, sd_variant = 0.2, 0.1
    sums = np.zeros(3)
    worlds = 1500
    for _ in range(worlds):
        chance = 0.5 + sd_pair * generator.choice([-1, 1], (40, 1)) + sd_variant * generator.choice([-1, 1], (40, 4))
        n = generator.integers(0, 4, (40, 4))
        found = nested_shares(generator.binomial(n, chance), n)
        assert found.total is not None
        sums += np.array([found.pairs, found.variants, found.samples]) * found.total
    within = 0.25 - sd_pair**2 - sd_variant**2
    assert sums / worlds == pytest.approx([sd_pair**2, sd_variant**2, within], abs=0.002)


def test_one_sample_a_variant_leaves_variants_and_samples_apart_unknown() -> None:
    found = nested_shares(np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]]), np.ones((3, 4), dtype=np.int64))
    assert found.pairs is not None
    assert found.variants is None
    assert found.samples is None


def test_negative_components_stay_negative() -> None:
    found = nested_shares(np.array([[1, 1], [1, 1]]), np.array([[2, 2], [2, 2]]))
    assert found.variants == pytest.approx(-1.0)
    assert found.samples == pytest.approx(2.0)


def test_no_variance_has_no_shares() -> None:
    found = variance_shares(count_draws(uniform("refused", "complied")), "refused", 0)
    assert (found.pairs, found.variants, found.samples, found.total) == (None, None, None, 0.0)


@given(tables(labels=(*SCORED, "unscored")))
@settings(max_examples=60, deadline=None)
def test_alpha_agrees_with_the_package_on_the_full_matrix(table: pd.DataFrame) -> None:
    draws = count_draws(table)
    matrix = []
    for _, group in table.groupby(["pair_id", "side"], sort=True):
        matrix.append([{"refused": 1.0, "partial": 1.0, "complied": 0.0}.get(label, np.nan) for label in group.label])
    ratings = np.array(matrix).T
    found = alpha(draws, "refused").all
    pairable = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        assert found is None
    else:
        assert found == pytest.approx(
            krippendorff.alpha(reliability_data=ratings, level_of_measurement="nominal"), abs=1e-9
        )


def test_alpha_of_labels_and_of_sides() -> None:
    draws = count_draws(
        table_of([[[["refused", "partial"]], [["complied"] * 2]], [[["refused"] * 2], [["complied"] * 2]]])
    )
    assert alpha(draws, "refused").all == pytest.approx(1.0)
    assert alpha(draws, "refused").harmful is None, "one value on that side"
    assert alpha_of_labels(draws) is not None
    assert alpha_of_labels(draws) < 1.0  # type: ignore[operator]


def test_alpha_of_a_textbook_case() -> None:
    """Four units of two raters, one of which differs: D_o = 2/8, D_e = 2 x 5 x 3 / (8 x 7)."""
    assert nominal_alpha(np.array([[2, 0], [2, 0], [0, 2], [1, 1]])) == pytest.approx(
        1 - (2 / 8) / (2 * 5 * 3 / (8 * 7))
    )


def test_indices_of_the_literature() -> None:
    counts = np.array([[5, 0, 0], [4, 1, 0], [3, 1, 1], [0, 1, 0], [0, 0, 0]])
    found = stability_of(counts)
    assert found.prompts == 3, "one rating cannot flip"
    assert found.ssi == pytest.approx((1.0 + 0.8 + 0.6) / 3)
    assert found.flip_rate == pytest.approx(2 / 3)
    assert found.unstable == pytest.approx(1 / 3), "exactly 0.8 is not unstable"


def test_indices_need_two_samples() -> None:
    found = stability(count_draws(table_of([[[["refused"]], [["complied"]]]])))
    assert (found.prompts, found.ssi, found.flip_rate, found.unstable) == (0, None, None, None)
