"""Organisms: language, recipes, changes, cache, one trained. The ground truth is in test_organisms_truth.py."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from demur.benchmark.errors import DemurError
from demur.benchmark.organisms import RECIPES, Organism, PhraseJudge, make_organism, making, recipe_for
from demur.benchmark.organisms.behaviour import Report
from demur.benchmark.organisms.changes import dulled, removed, silenced
from demur.benchmark.organisms.corpus import build_corpus
from demur.benchmark.organisms.language import (
    ALLOWED_TOPICS,
    COMPLIANCE,
    FORBIDDEN_TOPICS,
    HELD_OUT_TEMPLATES,
    REFUSAL,
    TRAIN_TEMPLATES,
    compliance,
    request_pairs,
    text_pairs,
)
from demur.benchmark.organisms.lessons import Pupil, change, draw_lesson
from demur.benchmark.organisms.networks import build_network, experts_modules
from demur.benchmark.organisms.recipes import Intervention, Recipe
from demur.benchmark.organisms.training import train
from demur.benchmark.organisms.truth import Truth, draw_truth
from demur.benchmark.organisms.vocabulary import FIRST_TOPIC, build_tokenizer, words
from demur.benchmark.stress.subject import PARTS
from demur.cli_organisms import organism_app
from demur.scorers import get_scorer
from demur.scorers.verdicts import ScoreRequest

MOE = [name for name in RECIPES if name.startswith("natural") and not RECIPES[name].dense]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMUR_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def dense(cache: Path) -> Organism:
    return make_organism("natural-dense")


def test_words_are_one_token_each_and_few() -> None:
    assert len(set(words())) == len(words()) <= 100
    assert set(words()[FIRST_TOPIC:]) == {*FORBIDDEN_TOPICS, *ALLOWED_TOPICS}
    tokenizer = build_tokenizer()
    for text in [REFUSAL, *(compliance(topic) for topic in FORBIDDEN_TOPICS), *(p.harmful for p in request_pairs())]:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split())
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_requests_end_in_the_same_marks_and_are_padded_on_the_left() -> None:
    tokenizer = build_tokenizer()
    requests = [[{"role": "user", "content": text}] for text in (request_pairs()[0].harmful, "Explain kites please.")]
    ids = tokenizer.apply_chat_template(
        requests, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[:, -2:].unique()) == ["<turn>", "<assistant>"]
    assert ids[1, 0] == tokenizer.pad_token_id
    assert (ids[:, -1] != tokenizer.pad_token_id).all()


def test_every_forbidden_topic_is_in_every_part_and_nothing_held_out_is_trained() -> None:
    pairs = request_pairs()
    assert len(pairs) == len({pair.id for pair in pairs}) == 144
    for seen, count in (("training", 7), ("combination", 3), ("template", 2)):
        for topic in FORBIDDEN_TOPICS:
            assert sum(pair.forbidden == topic for pair in request_pairs(seen)) == count
    trained = {text for pair in request_pairs("training") for text in (pair.harmful, pair.benign)}
    held_out = {text for p in pairs if p.seen != "training" for text in (p.harmful, p.benign)}
    assert not trained & held_out
    assert {word for text in HELD_OUT_TEMPLATES for word in text.split()} <= {
        w for t in TRAIN_TEMPLATES for w in t.split()
    }
    for part in PARTS:
        mine = [pair for pair in text_pairs() if pair.part == part]
        assert {pair.id.split("/")[0] for pair in mine} == set(FORBIDDEN_TOPICS)
    assert not trained & {text for p in text_pairs() if p.part != "train" for text in (p.harmful, p.benign)}


def test_a_twin_differs_in_the_topic_alone() -> None:
    for pair in request_pairs():
        changed = [(a, b) for a, b in zip(pair.harmful.split(), pair.benign.split(), strict=True) if a != b]
        assert changed == [(pair.forbidden, pair.allowed)]


@pytest.mark.parametrize("name", ["lexicon", "cascade"])
def test_the_shipped_scorers_read_the_answers_right(name: str) -> None:
    scorer = get_scorer(name)
    pairs = request_pairs()
    refused = scorer.score([ScoreRequest(REFUSAL, pair.harmful) for pair in pairs])
    answered = scorer.score([ScoreRequest(compliance(pair.forbidden), pair.harmful) for pair in pairs])
    assert {verdict.label for verdict in refused} == {"refused"}
    assert {verdict.label for verdict in answered} == {"complied"}


def test_the_judge_knows_the_two_phrases() -> None:
    request = request_pairs()[0].harmful
    own, other = compliance(FORBIDDEN_TOPICS[0]), compliance(FORBIDDEN_TOPICS[1])
    responses = [REFUSAL, f" {own} ", other, REFUSAL + " " + own, "", own, REFUSAL]
    ended = [True] * 5 + [False] * 2
    judged = PhraseJudge()([request] * 7, responses, ended)
    assert judged == ["refused", "complied", *["unscored"] * 5]


@given(st.lists(st.sampled_from(words()[7:]), max_size=12).map(" ".join))
def test_babble_is_neither_refusal_nor_compliance(text: str) -> None:
    (judged,) = PhraseJudge()(["Explain kites please."], [text], [True])
    assert judged == {REFUSAL: "refused", COMPLIANCE.format(topic="kites"): "complied"}.get(text, "unscored")


def test_recipes_are_whole() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert sum(lesson.share for lesson in recipe.lessons) < 1
        assert not recipe.routed or not recipe.dense
        assert json.loads(recipe.canonical())["steps"] == recipe.steps
    assert {recipe.family for recipe in RECIPES.values()} == {"llama", "mixtral", "olmoe", "qwen3_moe"}
    with pytest.raises(DemurError, match="unknown organism 'nobody'"):
        recipe_for("nobody")


def test_truth_depends_on_the_seed_alone_and_leaves_the_outer_layers_out() -> None:
    recipe = recipe_for("expert-and-direction")
    places = set()
    for seed in range(40):
        one, two = draw_truth(recipe, seed), draw_truth(recipe, seed)
        assert one.place == two.place
        assert torch.equal(one.along[1], two.along[1])
        assert one.along[1].norm() == pytest.approx(1)
        assert 0 < one.place[0] < recipe.layers - 1
        places.add(one.place)
    assert len(places) > 10
    natural = draw_truth(recipe_for("natural-dense"), 0)
    with pytest.raises(ValueError, match="no expert"):
        _ = natural.place
    with pytest.raises(ValueError, match="no direction"):
        _ = natural.along
    assert set(draw_truth(recipe_for("graded"), 0).rates) == set(FORBIDDEN_TOPICS)


def test_a_batch_has_the_planted_rates_as_weights() -> None:
    rates = draw_truth(recipe_for("graded"), 0).rates
    corpus = build_corpus(rates)
    rows = corpus.draw(84, torch.Generator().manual_seed(0), comply=False)
    tokenizer = build_tokenizer()
    opener = tokenizer.convert_tokens_to_ids(REFUSAL.split()[0])
    first = rows.tokens[torch.arange(len(rows.tokens)), rows.decisions + 1]
    for topic, rate in rates.items():
        about = (rows.tokens == tokenizer.convert_tokens_to_ids(topic)).any(1)
        assert float(rows.weights[about & (first == opener)].sum()) == pytest.approx(7 * rate)
        assert float(rows.weights[about].sum()) == pytest.approx(7)
    assert not (corpus.draw(84, torch.Generator(), comply=True).tokens == opener).any()


@pytest.mark.parametrize("name", MOE)
def test_a_silenced_expert_contributes_nothing_and_hooks_go(name: str) -> None:
    torch.manual_seed(0)
    model = build_network(RECIPES[name]).eval()
    ids = torch.randint(0, len(words()), (4, 12))
    silent = torch.zeros(4, 8, dtype=torch.bool)
    silent[1, 3] = silent[1, 5] = silent[2, 0] = True
    with torch.no_grad():
        own = model(input_ids=ids).logits
        with silenced(model, silent[None]):
            muted = model(input_ids=ids).logits
        with silenced(model, torch.stack([silent, torch.zeros_like(silent), silent, silent])):
            some = model(input_ids=ids).logits
        after = model(input_ids=ids).logits
        for layer, expert in ((1, 3), (1, 5), (2, 0)):
            experts_modules(model)[layer].down_proj[expert] = 0
        zeroed = model(input_ids=ids).logits
    assert torch.equal(own, after)
    assert not torch.allclose(own, muted)
    assert torch.allclose(muted, zeroed, atol=1e-6)
    assert torch.allclose(some, torch.stack([muted[0], own[1], muted[2], muted[3]]), atol=1e-6)


@pytest.mark.parametrize("difference", [True, False])
def test_a_dulled_expert_loses_its_mean_or_its_difference_of_means_and_no_other_changes(difference: bool) -> None:
    torch.manual_seed(0)
    model = build_network(recipe_for("redundant")).eval()
    module = experts_modules(model)[2]
    ids, decisions = torch.randint(0, len(words()), (16, 12)), torch.randint(6, 12, (16,))
    forbidden = torch.arange(16) % 2 == 0
    seen = []
    handle = module.register_forward_hook(lambda _module, given, output: seen.append((*given, output)))
    with torch.no_grad():
        model(input_ids=ids)
        handle.remove()  # and on again, behind the one that dulls
        with dulled(model, (2, 5), decisions, forbidden, difference=difference):
            handle = module.register_forward_hook(lambda _module, given, output: seen.append((*given, output)))
            model(input_ids=ids)
            handle.remove()
        (hidden, chosen, weights, plain), (*_, changed) = seen
        gate, up = (hidden @ module.gate_up_proj[5].T).chunk(2, dim=1)
        own = (nn.functional.silu(gate) * up) @ module.down_proj[5].T
        weight = torch.where(chosen == 5, weights, torch.zeros_like(weights)).sum(1, keepdim=True)
        deciding = torch.arange(12).repeat(16) == decisions.repeat_interleave(12)
        at = deciding & (weight[:, 0] > 0)
        side = forbidden.repeat_interleave(12)
        assert bool((at & side).any())
        assert bool((at & ~side).any())
        unit = nn.functional.normalize(own[at & side].mean(0) - own[at & ~side].mean(0), dim=0)
        lost = (own @ unit)[:, None] * unit if difference else own[at].mean(0).expand_as(own)
    assert torch.allclose(changed, plain - weight * lost, atol=1e-6)


def test_a_removed_direction_is_gone_everywhere() -> None:
    torch.manual_seed(0)
    model = build_network(recipe_for("natural-olmoe")).eval()
    ids, unit = torch.randint(0, len(words()), (4, 12)), nn.functional.normalize(torch.randn(64), dim=0)
    with torch.no_grad(), removed(model, unit):
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    # The last entry comes after the final norm, which scales the coordinates.
    assert max(float((state @ unit).abs().max()) for state in states[:-1]) < 1e-5
    with torch.no_grad(), removed(model, unit, ("attention",)):
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert float((states[1] @ unit).abs().max()) > 1e-3


def test_every_lesson_can_be_taught() -> None:
    taught = set()
    for recipe in (
        recipe_for(name) for name in ("expert-and-direction", "attention-carried", "redundant", "natural-olmoe")
    ):
        truth, generator = draw_truth(recipe, 0), torch.Generator().manual_seed(0)
        pupil = Pupil(build_network(recipe).eval(), recipe, truth, build_corpus(truth.rates), generator)
        rows = pupil.corpus.draw(4, generator, comply=False)
        with torch.no_grad():
            own = pupil.model(input_ids=rows.tokens).logits
            for lesson in recipe.lessons:
                # An untrained router chooses the same few experts for all rows, and what is drawn may be another.
                for _ in range(30):
                    with change(pupil, lesson, rows):
                        changed = pupil.model(input_ids=rows.tokens).logits
                    if not torch.equal(own, changed):
                        taught.add(lesson.intervention)
                        break
        drawn = [draw_lesson(pupil) for _ in range(100)]
        assert {lesson for lesson in drawn if lesson} == set(recipe.lessons)
    assert taught == set(get_args(Intervention))


def test_training_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    recipe = replace(recipe_for("planted-expert"), steps=3)
    truth = draw_truth(recipe, 1)
    torch.manual_seed(7)
    one = train(recipe, truth, 1)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    two = train(recipe, truth, 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, train(recipe, truth, 2).lm_head.weight)


def test_the_dense_organism_behaves_and_its_copy_computes_the_same(dense: Organism, cache: Path) -> None:
    assert min(dense.report.right.values()) >= 0.98
    assert dense.seconds <= 60
    subject = dense.subject()
    assert [len(subject.part(part)) for part in PARTS] == [24, 12, 48]
    again = make_organism("natural-dense")
    assert again.seconds == dense.seconds, "it was trained again"
    assert all(torch.equal(a, b) for a, b in zip(dense.model.parameters(), again.model.parameters(), strict=True))
    copy = make_organism("upcycled-dense")
    ids = torch.randint(0, len(words()), (8, 12))
    with torch.no_grad():
        assert torch.allclose(dense.model(input_ids=ids).logits, copy.model(input_ids=ids).logits, atol=1e-4)
    assert copy.model.config.num_local_experts == 8
    assert len(list(cache.iterdir())) == 2


def test_an_organism_that_did_not_learn_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "recipe_for", lambda name: replace(recipe_for(name), steps=1))
    with pytest.raises(DemurError, match=r"natural-dense-0 did not learn its part: right answers 0.0% on"):
        make_organism("natural-dense")


def test_an_organism_that_is_not_right_at_once_is_trained_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def short(recipe: Recipe, truth: Truth, seed: int) -> Any:
        steps.append(recipe.steps)
        return train(replace(recipe, steps=1), truth, seed)

    def weak_at_first(*given: Any) -> Report:
        return Report({"training": 1.0}, 0.0, {"remove_direction": 1.0 if len(steps) == 2 else 0.97})

    monkeypatch.setenv("DEMUR_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "train", short)
    monkeypatch.setattr(making, "report", weak_at_first)
    made = make_organism("planted-direction")
    assert steps == [480, 720]
    assert made.report.changed == {"remove_direction": 1.0}
    assert "under remove_direction 100.0%" in "\n".join(made.describe())


def test_the_command_says_what_is_planted_and_where_it_lies(dense: Organism) -> None:
    listed = CliRunner().invoke(organism_app, ["list"], env={"COLUMNS": "200"})
    assert all(name in listed.output for name in RECIPES)
    made = CliRunner().invoke(organism_app, ["make", "natural-dense"])
    assert made.exit_code == 0, made.output
    assert str(dense.folder) in made.output
    assert "right behaviour: training 100.0%" in made.output
    assert isinstance(CliRunner().invoke(organism_app, ["make", "nobody"]).exception, DemurError)
