"""Cost of the stress test: against one hooked forward per candidate and dose, of idle hooks, and in memory.

Run it from the repository root: ``python benchmarks/bench_stress.py``.
"""

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from demur.benchmark.stress.directions import collect, pair_samples
from demur.benchmark.stress.engine import Engine
from demur.benchmark.stress.experts import ExpertHooks
from demur.benchmark.stress.families import tiny_model
from demur.benchmark.stress.interventions import Change, Edit, Site, Steering, expert_site
from demur.benchmark.stress.rows import Tokens, log_odds
from demur.benchmark.stress.settings import BUDGETS

DOSES = (0.25, 0.5, 0.75, 1.0)
OPENERS = (3, 4)


def prompts(count: int, seed: int = 0) -> list[Tokens]:
    """Random prompts of 12 to 19 tokens."""
    source = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(2, 90, (12 + n % 8,), generator=source).tolist()) for n in range(count)]


def candidates(model: Any) -> list[Edit]:
    """Every expert silenced, and a step at every layer's input, at every dose."""
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    layers, experts = model.config.num_hidden_layers, model.config.num_experts
    edits = [Edit({Site("input", n): Change(add=vector * dose)}) for n in range(layers) for dose in DOSES]
    return edits + [
        Edit({expert_site(m, e): Change(keep=1 - dose)})
        for m in range(layers)
        for e in range(experts)
        for dose in DOSES
    ]


def straightforward(engine: Engine, edits: list[Edit], asked: list[Tokens]) -> Tensor:
    """(candidates, prompts) log-odds, one hooked forward for each candidate and dose."""
    rows = []
    for edit in edits:
        with Steering(engine.parts, engine.hooks, [edit], torch.zeros(len(asked), dtype=torch.long)):
            rows.append(log_odds(engine.last_logits(asked), OPENERS))
    return torch.stack(rows)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this thread, which other work on the machine does not lengthen."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def search_ratio(rounds: int) -> dict[str, float]:
    """Ratio of processor time on the same tiny model and candidates, and the largest difference of results.

    As many prompts as the first round of a search has. The model's own logits and routing on the prompts are computed
    once for a whole sweep, before its searches.
    """
    model = tiny_model("olmoe")
    asked, edits = prompts(BUDGETS["quick"].rounds[0]), candidates(model)
    ratios, difference = [], 0.0
    with Engine(model) as engine:
        straightforward(engine, edits[:4], asked)
        own, selected = engine.own_logits(asked), engine.selected(asked)
        for _ in range(rounds):
            found: dict[str, Tensor] = {}

            def slow(found: dict[str, Tensor] = found) -> None:
                found["slow"] = straightforward(engine, edits, asked)

            def fast(found: dict[str, Tensor] = found) -> None:
                found["fast"] = engine.score(edits, asked, OPENERS, own=own, selected=selected).log_odds

            ratios.append(seconds(slow) / seconds(fast))
            difference = max(difference, float((found["slow"] - found["fast"]).abs().max()))
    return {"candidates": len(edits), "ratio": statistics.median(ratios), "max_abs_difference": difference}


def idle_overhead(rounds: int) -> float:
    """Share by which hooks that are on but idle lengthen a forward pass; median of interleaved pairs."""
    model = tiny_model("olmoe")
    ids = torch.tensor([tokens[:12] for tokens in prompts(64)])

    def forward() -> None:
        with torch.no_grad():
            for _ in range(4):
                model(input_ids=ids, use_cache=False)

    forward()
    shares = []
    for _ in range(rounds):
        off = seconds(forward)
        with ExpertHooks(model):
            on = seconds(forward)
        shares.append(on / off - 1)
    return statistics.median(shares)


def accumulated(pairs: int) -> int:
    """Bytes that the collecting pass keeps for so many pairs."""
    model = tiny_model("olmoe")
    asked = prompts(2 * pairs)
    with Engine(model, token_budget=1024) as engine:
        found = collect(engine, asked[:pairs], asked[pairs:], pair_samples(pairs, 3, 3), 2)
    tensors = [found.residual, found.norm, *found.frequency, *found.first, *found.own, *found.mean, *found.own_norm]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def peak_of_search() -> int:
    """Peak bytes of Python objects during a search; tensors are counted by :func:`accumulated`."""
    model = tiny_model("olmoe")
    asked, edits = prompts(8), candidates(model)
    with Engine(model) as engine:
        tracemalloc.start()
        engine.score(edits, asked, OPENERS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    result = {
        "search": search_ratio(rounds),
        "idle_overhead": idle_overhead(4 * rounds),
        "kept_bytes": {str(pairs): accumulated(pairs) for pairs in (16, 128)},
        "python_peak_bytes": peak_of_search(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
