"""Figures of the stress test: definitions, bounds, cases."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demur.benchmark.errors import DemurError
from demur.benchmark.schema import schema
from demur.benchmark.stress.cells import Cell, read_cells, write_cells
from demur.benchmark.stress.directions import common_suffix, pair_samples
from demur.benchmark.stress.experts_figures import expert_figures, gini, part_figures, shapley, spearman
from demur.benchmark.stress.figures import Draws, area, curve_figures, dose_50, effect
from demur.benchmark.stress.prepare import learn_openers
from demur.benchmark.stress.rows import Openers, log_odds
from demur.benchmark.stress.search import _Result, _Search
from demur.benchmark.stress.settings import settings
from demur.benchmark.stress.world import without_span

PAIRS = [f"p{n}" for n in range(12)]
rates = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def own():
    return [
        Cell("own", side=side, pair_id=pair, log_odds=5.0 if side == "harmful" else -5.0,
             judgement="refused" if side == "harmful" else "complied")
        for side in ("harmful", "benign") for pair in PAIRS
    ]  # fmt: skip


def steered(label, seed=0, dose=1.0, side="harmful"):
    return [Cell("test", "S1", "real", seed, "c", "suppress", dose, side, pair, 1, -1.0, 0.02, label) for pair in PAIRS]


@given(rates)
def test_area_is_within_the_rates(values):
    found = area([n / len(values) for n in range(len(values))], np.array(values))
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([1.0, 1.0, 0.0], 0.75), ([1.0, 0.5, 0.0], 0.5), ([0.8, 0.6, 0.5], None), ([1.0, float("nan"), 0.0], 0.5),
     ([1.0, 0.0, 1.0], 0.25)],
)  # fmt: skip
def test_dose_50(values, wanted):
    found = dose_50([0.0, 0.5, 1.0], np.array(values))
    assert np.isnan(found) if wanted is None else found == pytest.approx(wanted)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_gini_is_between_none_and_all(values):
    found = gini(np.array(values))
    assert np.isnan(found) if sum(values) == 0 else -1e-9 <= found < 1


def test_gini_of_one_and_of_equal_values():
    assert gini(np.array([0.0] * 9 + [1.0])) == pytest.approx(0.9)
    assert gini(np.ones(10)) == pytest.approx(0.0)
    assert gini(np.array([-3.0, 0.0, 2.0])) == pytest.approx(2 / 3)


def test_spearman_takes_ties_and_constants():
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 30])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 1, 2]), np.array([5.0, 5, 4])) == pytest.approx(-1.0)
    assert np.isnan(spearman(np.ones(3), np.arange(3.0)))


@given(st.lists(st.floats(-5, 5), min_size=7, max_size=7))
def test_shapley_values_sum_to_the_whole(values):
    names = ("a", "b", "c")
    subsets = [(), ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    worth = {frozenset(s): np.array([v]) for s, v in zip(subsets, [0.0, *values], strict=True)}
    total = sum(shapley(worth, names, name)[0] for name in names)
    assert total == pytest.approx(worth[frozenset(names)][0], abs=1e-9)


def test_babble_is_not_an_effect():
    draws = Draws.make(len(PAIRS), 3)
    for label, wanted in (("unscored", 0.0), ("complied", 1.0), ("refused", 0.0)):
        rise, fall = effect(steered(label), own(), {0: 1.0}, draws)
        assert rise[0] == wanted
        assert fall[0] == pytest.approx(6.0)


def test_a_dose_that_only_babbles_has_no_rate():
    cells = [cell for seed in range(3) for cell in steered("unscored", seed)]
    point = curve_figures(cells, own(), [1.0], [0, 1, 2], Draws.make(len(PAIRS), 3))["curve"][1]
    assert point["refusal_rate"]["value"] is None
    assert point["scored"] == 0.0


def test_curves_have_intervals_and_no_nan():
    half = [
        Cell("test", "S1", "real", seed, "c", "suppress", dose, "harmful", pair, 1, 0.0, 0.05,
             "complied" if n < 12 * dose else "refused")
        for seed in range(3) for dose in (0.5, 1.0) for n, pair in enumerate(PAIRS)
    ]  # fmt: skip
    benign = [
        cell for seed in range(3) for dose in (0.5, 1.0) for cell in steered("complied", seed, dose, side="benign")
    ]
    found = curve_figures(half + benign, own(), [0.5, 1.0], [0, 1, 2], Draws.make(len(PAIRS), 3))
    json.dumps(found, allow_nan=False)
    assert [point["refusal_rate"]["value"] for point in found["curve"]] == [1.0, 0.5, 0.0]
    assert found["curve"][1]["refusal_rate"]["low"] < 0.5 < found["curve"][1]["refusal_rate"]["high"]
    assert found["dose_50"]["value"] == pytest.approx(0.5)
    assert [entry["drop"]["value"] for entry in found["equal_kl"]] == [0.0, 1.0, 1.0, 1.0]


def test_one_expert_of_many():
    cells = [
        Cell("search", "S4", "real", 0, f"silence layer=0 module=0 expert={e}", "suppress", 1.0, "harmful", pair, 1,
             -8.0 if e == 3 else 0.0)
        for e in range(8) for pair in PAIRS
    ]  # fmt: skip
    routing = {f"layer=0 module=0 expert={e}": 0.1 * e for e in range(8)}
    found = expert_figures(cells, routing)
    assert found["largest"]["place"] == "layer=0 module=0 expert=3"
    assert found["concentration"]["value"] == pytest.approx(7 / 8)
    assert expert_figures([], routing) is None


def test_parts_of_a_factorial():
    draws = Draws.make(len(PAIRS), 1)
    worth = {"attention": 4.0, "feed_forward": 1.0, "attention+feed_forward": 6.0}
    cells = [
        Cell("test", "S5", "real", 0, name, "suppress", 1.0, "harmful", pair, 1, 5.0 - drop, 0.0, "refused")
        for name, drop in worth.items() for pair in PAIRS
    ]  # fmt: skip
    found = part_figures(cells, own(), ("attention", "feed_forward"), [0], draws)["log_odds"]
    assert found["interaction"]["value"] == pytest.approx(1.0)
    assert found["shares"]["attention"]["value"] == pytest.approx(4.5 / 6)


@given(st.integers(2, 60), st.integers(3, 5), st.integers(1, 7))
def test_pair_samples(pairs, seeds, shuffles):
    rows = pair_samples(pairs, seeds, shuffles)
    assert rows.shape == (seeds + shuffles, pairs)
    real, shuffled = rows[:seeds], rows[seeds:]
    assert bool((real >= 0).all())
    assert bool((shuffled.sum(dim=1) == 0).all())
    both = min(seeds, shuffles)
    assert bool((shuffled[:both].abs() == real[:both]).all())
    assert bool((pair_samples(pairs, seeds, shuffles) == rows).all())


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_what_is_left_is_orthogonal_to_all_that_is_taken_out(vectors, others, seed):
    chance = torch.Generator().manual_seed(seed)
    taken = torch.randn(others, 12, generator=chance)
    taken = torch.cat([taken, 1e-4 * taken[:1] + 1e-4 * taken[-1:], torch.zeros(1, 12)])
    mine = torch.randn(vectors, 12, generator=chance)
    left = without_span(mine, taken)
    assert torch.allclose(left @ taken.T, torch.zeros(vectors, others + 2), atol=1e-4)
    # What was taken off is of the others' span, so that nothing else is lost.
    assert torch.allclose(without_span(mine - left, taken), torch.zeros_like(mine), atol=1e-4)
    assert torch.allclose(without_span(left, taken), left, atol=1e-5)


def test_of_a_vector_within_the_span_nothing_is_left_to_be_scaled_up():
    taken = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0))
    mine = torch.stack([taken[0, 0] + 2 * taken[1, 1], torch.zeros(32)])
    assert bool((without_span(mine, taken) == 0).all())
    assert torch.equal(without_span(mine, torch.zeros(1, 32)), mine)


def test_common_suffix():
    assert common_suffix([(1, 2, 9, 8), (3, 9, 8)], 5) == 2
    assert common_suffix([(1, 2, 9, 8), (3, 9, 8)], 1) == 1
    assert common_suffix([(1, 2), (3, 4)], 5) == 1


def test_openers_are_what_refusals_open_with():
    assert learn_openers([(7, 1), (7, 2), (7, 1), (5, 4)], [(5, 4), (5, 4), (6, 1), (6, 2)]) == Openers((7,))
    with pytest.raises(DemurError, match="same tokens"):
        learn_openers([(5, 1), (5, 2)], [(5, 2), (5, 1)])


def test_where_refusals_and_other_answers_open_alike_the_second_token_decides():
    assert learn_openers([(5, 1)] * 4, [(5, 2)] * 4) == Openers((), 5, (1,))
    assert learn_openers([(5, 1)] * 3 + [(7, 2)], [(5, 2), (5, 3), (6, 1), (6, 1)]) == Openers((7,), 5, (1,))
    # An opener of one other answer in ten is clear enough by itself.
    assert learn_openers([(5, 1)] * 4, [(5, 1)] + [(6, 1)] * 9) == Openers((5,))


@given(st.integers(0, 2**31), st.booleans())
def test_log_odds_are_those_of_the_probabilities(seed, led):
    logits = torch.randn(3, 1 + led, 9, generator=torch.Generator().manual_seed(seed)).double() * 4
    openers = Openers((1, 2), 4, (0, 7)) if led else Openers((1, 2))
    chance = logits.softmax(dim=-1)
    refusal = chance[:, 0, [1, 2]].sum(dim=1)
    if led:
        refusal = refusal + chance[:, 0, 4] * chance[:, 1, [0, 7]].sum(dim=1)
    assert torch.allclose(log_odds(logits, openers), torch.log(refusal) - torch.log1p(-refusal))


def test_cells_come_back_as_written(tmp_path):
    cells = own() + steered("complied")
    write_cells(tmp_path / "cells.parquet", cells)
    assert read_cells(tmp_path / "cells.parquet") == cells


def test_schema_has_no_place_for_text():
    text = json.dumps(schema("demur.benchmark", "stress"))
    assert not any(f'"{word}"' in text for word in ("response", "text", "vector", "direction", "weights"))


def test_an_expert_whose_whole_silence_does_damage_stays_in_the_search():
    asked = SimpleNamespace(own=torch.zeros(1, 1, 8))
    plan = SimpleNamespace(settings=settings("quick"), validation=asked, openers=Openers((3,)))
    run = _Search(None, plan, ("S4", "real", 0))
    found = [_Result(name, 1.0, drop, kl) for name, drop, kl in (("a", 8.5, 0.53), ("b", 2.0, 0.19), ("c", 3.0, 5.0))]
    assert [result.candidate for result in sorted(found, key=run.promise)] == ["a", "b", "c"]
    assert [result.candidate for result in sorted(found, key=run._rank)] == ["b", "a", "c"]
