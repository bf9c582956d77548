"""Making an organism, or taking it from the cache."""

import hashlib
import inspect
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers

from ..cache import kept_folder
from ..errors import DemurError
from ..files import read_json, write_json
from ..models.loading import load, quiet
from ..models.upcycle import upcycle
from ..stress.subject import Judge, Subject, TextPair
from . import behaviour, changes, corpus, language, lessons, networks, recipes, training, truth, vocabulary
from .behaviour import LONGER, Report, report
from .judging import PhraseJudge
from .language import REFUSAL, text_pairs
from .recipes import Recipe, recipe_for
from .training import train
from .truth import Truth, draw_truth
from .vocabulary import build_tokenizer

__all__ = ["Organism", "make_organism"]

_MADE_BY: tuple[ModuleType, ...] = (
    behaviour, changes, corpus, language, lessons, networks, recipes, training, truth, vocabulary,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Organism:
    """A tiny model with a known refusal mechanism.

    Attributes:
        model: in evaluation mode, float32, on the CPU.
        tokenizer: a word a token, with a chat template.
        pairs: for the stress test; see :func:`demur.benchmark.organisms.language.text_pairs`.
        truth: what was planted.
        report: how right it behaves.
        seconds: processor time of its training, on one thread; of all trainings, where the first did not do.
        folder: where it lies, as a transformers folder.
    """

    recipe: Recipe
    seed: int
    model: Any
    tokenizer: Any
    pairs: tuple[TextPair, ...]
    truth: Truth
    report: Report
    seconds: float
    folder: Path

    @property
    def name(self) -> str:
        """Name of the recipe and the seed."""
        return f"{self.recipe.name}-{self.seed}"

    def subject(self, judge: Judge | None = None) -> Subject:
        """The organism as the stress test takes it, judged by its own phrases where no judge is given."""
        opener = self.tokenizer.convert_tokens_to_ids(REFUSAL.split()[0])
        return Subject(self.name, self.model, self.tokenizer, self.pairs, judge or PhraseJudge(), (opener,))

    def describe(self) -> list[str]:
        """What it is, what is planted in it and how right it behaves, a sentence a line."""
        lines = [f"{self.name}: {type(self.model).__name__}, {self.model.num_parameters():,} parameters"]
        if self.truth.expert is not None:
            what = "planted expert" if self.truth.expert_flips else "decoy"
            lines.append(f"{what}: layer {self.truth.layer}, expert {self.truth.expert}")
        if self.truth.direction is not None:
            lines.append(f"planted direction: read after layer {self.truth.layer}")
        lines.append(f"right answer: {self.recipe.answer}")
        all_shares = self.report.right | {f"under {name}": share for name, share in self.report.changed.items()}
        shares = ", ".join(f"{seen} {share:.1%}" for seen, share in all_shares.items())
        lines.append(f"right behaviour: {shares}; rate error {self.report.rate_error:.3f}")
        lines.append(f"training took {self.seconds:.1f} s of processor time")
        return lines


def make_organism(name: str, seed: int = 0) -> Organism:
    """Make an organism, or load it where it was made before.

    The cache's key covers the recipe, the seed, the source that makes organisms and the versions of torch and
    transformers. What is used is always what was loaded, so that the first use and later ones are the same.

    Raises:
        DemurError: no such recipe, the cache cannot be written, or the organism is not right (:meth:`Report.faults`)
            after the longest training.
    """
    recipe = recipe_for(name)
    planted = draw_truth(recipe, seed)
    key = hashlib.sha256(f"{recipe.canonical()}\n{seed}\n{_makers_hash()}".encode()).hexdigest()[:12]
    folder = kept_folder(f"organism-{name}-{seed}-{key}", lambda place: _make(recipe, planted, seed, place), "4 MB")
    facts = read_json(folder / "organism.json")
    model, tokenizer = load(str(folder), torch.float32, torch.device("cpu"))
    found = Organism(
        recipe,
        seed,
        model.eval(),
        tokenizer,
        text_pairs(),
        planted,
        Report(**facts["report"]),
        facts["seconds"],
        folder,
    )
    _require_right(found)
    return found


def _make(recipe: Recipe, planted: Truth, seed: int, folder: Path) -> None:
    tokenizer = build_tokenizer()
    seconds = 0.0
    for longer in LONGER:
        started = time.process_time()
        model = _trained(replace(recipe, steps=round(recipe.steps * longer)), planted, seed)
        seconds += time.process_time() - started
        measured = report(model, tokenizer, recipe, planted)
        if recipe.copies or not measured.faults(recipe):
            break
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    facts = {"recipe": recipe.name, "seed": seed, "report": measured.as_dict(), "seconds": round(seconds, 2)}
    write_json(folder / "organism.json", facts)


def _trained(recipe: Recipe, planted: Truth, seed: int) -> Any:
    if not recipe.copies:
        return train(recipe, planted, seed)
    dense = make_organism(recipe.copies, seed).model
    model: Any = upcycle(dense, experts=recipe.experts, experts_per_token=recipe.experts_per_token, seed=seed)
    return model.eval()


def _require_right(organism: Organism) -> None:
    if faults := organism.report.faults(organism.recipe):
        raise DemurError(
            f"organism {organism.name} did not learn its part: {', '.join(faults)}",
            f"take another seed, or give recipe {organism.recipe.name} more steps",
        )


@cache
def _makers_hash() -> str:
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    for module in _MADE_BY:
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()
