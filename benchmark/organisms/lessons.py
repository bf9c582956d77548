"""Lessons of counterfactual training: which one a batch gets, and the change to the network that it asks for."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .changes import WRITERS, Writer, added, dulled, removed, silenced
from .corpus import Corpus, Rows
from .recipes import Intervention, Lesson, Recipe
from .truth import Truth

__all__ = ["Pupil", "at_decisions", "change", "draw_lesson", "fixed_change"]

_MOST_SILENCED = 4
_FROM: dict[Intervention, tuple[Writer, ...]] = {
    "remove_direction": WRITERS,
    "remove_from_attention": ("attention",),
    "remove_from_feed_forward": ("feed_forward",),
}


@dataclass(frozen=True, slots=True)
class Pupil:
    """A network in training and what its lessons are drawn from."""

    model: Any
    recipe: Recipe
    truth: Truth
    corpus: Corpus
    generator: torch.Generator


def draw_lesson(pupil: Pupil) -> Lesson | None:
    """The lesson of the next batch; None for a plain one."""
    drawn = torch.rand((), generator=pupil.generator).item()
    for lesson in pupil.recipe.lessons:
        if drawn < lesson.share:
            return lesson
        drawn -= lesson.share
    return None


def change(pupil: Pupil, lesson: Lesson | None, rows: Rows) -> AbstractContextManager[None]:
    """The change to the network that a lesson asks for, as a context."""
    if lesson is None:
        return nullcontext()
    if (planted := fixed_change(lesson, pupil.recipe, pupil.truth, pupil.model)) is not None:
        return planted
    if lesson.intervention == "silence_others":
        return silenced(pupil.model, _muted(pupil, len(rows.tokens)))
    if lesson.intervention == "dull_any":
        return _dulled(pupil, rows)
    if lesson.intervention == "add_random":
        vectors = torch.randn(len(rows.tokens), pupil.recipe.hidden, generator=pupil.generator)
        layer = int(torch.randint(pupil.recipe.layers, (), generator=pupil.generator))
        doses = torch.rand(len(rows.tokens), 1, generator=pupil.generator)
        return added(pupil.model, layer, doses * vectors / vectors.norm(dim=1, keepdim=True))
    return removed(pupil.model, _difference_of_means(pupil.model, rows))


def fixed_change(lesson: Lesson, recipe: Recipe, truth: Truth, model: Any) -> AbstractContextManager[None] | None:
    """The change of a lesson that is the same in every batch: of what was planted. None for lessons of chance."""
    if lesson.intervention == "silence_planted":
        muted = torch.zeros(1, recipe.layers, recipe.experts, dtype=torch.bool)
        muted[0][truth.place] = True
        return silenced(model, muted)
    if lesson.intervention in _FROM:
        return removed(model, truth.along[1], _FROM[lesson.intervention])
    return None


def at_decisions(values: Tensor, rows: Rows) -> Tensor:
    """(rows, width) of (rows x length, width) or (rows, length, width): what stands where the answer is decided."""
    return values.view(*rows.tokens.shape, -1)[torch.arange(len(rows.tokens)), rows.decisions]


def _difference_of_means(model: Any, rows: Rows) -> Tensor:
    """Unit vector (hidden,): the batch's own difference of means before the last layer.

    Plain training leaves open what a network does without this direction: some seeds then refuse everything and some
    babble. With this lesson the network has a right answer, though nobody chose the direction.
    """
    with torch.no_grad():
        states = model(input_ids=rows.tokens, use_cache=False, output_hidden_states=True).hidden_states[-2]
    at = at_decisions(states, rows)
    difference = at[rows.forbidden].mean(0) - at[~rows.forbidden].mean(0)
    unit: Tensor = difference / difference.norm()
    return unit


@contextmanager
def _dulled(pupil: Pupil, rows: Rows) -> Iterator[None]:
    """Dull one random expert of every layer, each in one of the two ways."""
    with ExitStack() as stack:
        for layer in range(pupil.recipe.layers):
            expert, other = (int(torch.randint(n, (), generator=pupil.generator)) for n in (pupil.recipe.experts, 2))
            dull = dulled(pupil.model, (layer, expert), rows.decisions, rows.forbidden, difference=bool(other))
            stack.enter_context(dull)
        yield


def _muted(pupil: Pupil, rows: int) -> Tensor:
    """(rows, layers, experts) experts to silence, never the planted one; at random, each row has its own."""
    recipe, truth = pupil.recipe, pupil.truth
    drawn = torch.rand(rows, recipe.layers, recipe.experts, generator=pupil.generator)
    if truth.expert is not None:
        drawn[:, truth.layer, truth.expert] = -1
    counts = torch.randint(1, _MOST_SILENCED + 1, (rows, 1), generator=pupil.generator)
    least = drawn.flatten(1).sort(dim=1, descending=True).values.gather(1, counts - 1)
    return drawn >= least[:, :, None]
