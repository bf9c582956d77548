"""Cost of the stress test: against one hooked forward per candidate and dose, of idle hooks, and in memory.

Times are processor time of one thread, ratios the median of interleaved rounds, so that other work on the machine
counts for little.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .directions import collect, pair_samples
from .engine import Engine
from .experts import ExpertHooks
from .families import tiny_model
from .interventions import Change, Edit, Site, Steering, expert_site
from .rows import Openers, Tokens, log_odds
from .settings import BUDGETS

__all__ = ["StressBench", "bench_stress"]

FAMILY = "olmoe"
OPENERS = Openers((3, 4))
OPENING = 8


@dataclass(frozen=True, slots=True)
class StressBench:
    """What was measured.

    Attributes:
        candidates: edits that were scored.
        ratio: by number of prompts, time of the straightforward way over ours.
        max_abs_difference: of the log-odds of both ways, float32.
        idle_share: by which hooks that are on but idle lengthen a forward pass.
        kept_bytes: by number of pairs, what the pass that collects directions keeps.
        search_mib: by how much a search raised the most memory that the process held.
        resident_mib: the most memory that the process held.
    """

    candidates: int
    ratio: dict[int, float]
    max_abs_difference: float
    idle_share: float
    kept_bytes: dict[int, int]
    search_mib: float
    resident_mib: float


def bench_stress(*, prompts: Sequence[int] = BUDGETS["quick"].rounds, rounds: int = 5) -> StressBench:
    """Measure on a tiny Mixture-of-Experts model, one thread.

    Args:
        prompts: numbers of prompts; those of a search's rounds without it.
        rounds: interleaved repetitions, at least one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = tiny_model(FAMILY)
        edits = _candidates(model)
        before = _resident_mib()
        found = {count: _against_straightforward(model, edits, count, rounds) for count in prompts}
        peak = _resident_mib()
        return StressBench(
            len(edits),
            {count: ratio for count, (ratio, _) in found.items()},
            max(difference for _, difference in found.values()),
            _idle_share(4 * rounds),
            {pairs: _kept_bytes(pairs) for pairs in (16, 128)},
            peak - before,
            peak,
        )
    finally:
        torch.set_num_threads(threads)


def _prompts(count: int) -> list[Tokens]:
    """Random prompts of 12 to 19 tokens, the first 8 the same, as a chat template opens."""
    source = torch.Generator().manual_seed(0)
    opening = torch.randint(2, 90, (OPENING,), generator=source).tolist()
    return [(*opening, *torch.randint(2, 90, (12 - OPENING + n % 8,), generator=source).tolist()) for n in range(count)]


def _candidates(model: Any) -> list[Edit]:
    """A step at every layer's input and every expert silenced, at every dose of the quick budget."""
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    layers, experts, doses = (
        range(model.config.num_hidden_layers),
        range(model.config.num_experts),
        BUDGETS["quick"].doses,
    )
    steps = [Edit({Site("input", n): Change(add=vector * dose)}) for n in layers for dose in doses]
    return steps + [Edit({expert_site(m, e): Change(keep=1 - dose)}) for m in layers for e in experts for dose in doses]


def _straightforward(engine: Engine, edits: Sequence[Edit], asked: Sequence[Tokens]) -> Tensor:
    """(candidates, prompts) log-odds, one hooked forward for each candidate and dose."""
    rows = []
    for edit in edits:
        with Steering(engine.parts, engine.hooks, [edit], torch.zeros(len(asked), dtype=torch.long)):
            rows.append(log_odds(engine.last_logits(asked), OPENERS))
    return torch.stack(rows)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.thread_time()
    found = work()
    return time.thread_time() - began, found


def _against_straightforward(model: Any, edits: Sequence[Edit], count: int, rounds: int) -> tuple[float, float]:
    """Ratio of times, and largest difference of results.

    The model's own logits and routing on the prompts are given, and what its layers receive is kept from the first
    round on: a sweep computes these once, for all its searches.
    """
    asked = _prompts(count)
    ratios, difference = [], 0.0
    with Engine(model) as engine:
        _straightforward(engine, edits[:4], asked)
        own, selected = engine.own_logits(asked), engine.selected(asked)
        for _ in range(rounds):
            slow, wanted = _timed(lambda: _straightforward(engine, edits, asked))
            fast, got = _timed(lambda: engine.score(edits, asked, OPENERS, own=own, selected=selected))
            ratios.append(slow / fast)
            difference = max(difference, float((got.log_odds - wanted).abs().max()))
    return statistics.median(ratios), difference


def _idle_share(rounds: int) -> float:
    model = tiny_model(FAMILY)
    ids = torch.tensor([tokens[:12] for tokens in _prompts(64)])

    def forward() -> None:
        with torch.no_grad():
            for _ in range(4):
                model(input_ids=ids, use_cache=False)

    forward()
    shares = []
    for _ in range(rounds):
        off, _ = _timed(forward)
        with ExpertHooks(model):
            on, _ = _timed(forward)
        shares.append(on / off - 1)
    return statistics.median(shares)


def _kept_bytes(pairs: int) -> int:
    asked = _prompts(2 * pairs)
    with Engine(tiny_model(FAMILY), token_budget=1024) as engine:
        found = collect(engine, asked[:pairs], asked[pairs:], pair_samples(pairs, 3, 3), 2)
    tensors = [found.residual, found.norm, *found.frequency, *found.first, *found.own, *found.mean, *found.own_norm]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
