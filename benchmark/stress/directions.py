"""One pass over the training pairs collects all that the systems need: means, norms and routing, never activations.

Means are taken under several weightings of the pairs at once: one sample of the pairs per selection seed, and samples
with the labels of half of their pairs exchanged, which are the controls of shuffled labels. A pair counts with both of
its sides or not at all, so a direction is the mean of differences between a request and its own benign twin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .engine import Engine
from .experts import ExpertCall
from .rows import Tokens, tapped

__all__ = ["Collected", "collect", "collect_against", "common_suffix", "pair_samples"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What one pass over pairs gave; w counts weightings, p the last prompt positions (0 is the last token).

    Figures of experts are kept for the first weightings only, as many as :func:`collect` was told.

    Attributes:
        residual: (w, layers, p, hidden) mean difference harmful minus benign of the input of each layer.
        norm: (layers, p) mean norm of that input over all prompts.
        frequency: per experts module (w, 2 sides, p, experts), harmful first: share of prompts that select the expert.
        first: the same, for the expert with the largest weight alone.
        own: per experts module (w, p, experts, hidden) difference of an expert's mean own output between the sides,
            where both sides select it; the output's contribution on the one side that does, elsewhere.
        mean: per experts module (2 sides, experts, hidden) mean own output at the last positions, all pairs.
        own_norm: per experts module (experts,) mean norm of the own output; 0 where no prompt selects the expert.
    """

    residual: Tensor
    norm: Tensor
    frequency: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    own: tuple[Tensor, ...]
    mean: tuple[Tensor, ...]
    own_norm: tuple[Tensor, ...]

    def routing_difference(self, module: int, weighting: int, *, top_1: bool = False) -> Tensor:
        """(experts,) frequency on harmful minus on benign prompts, mean over the last positions."""
        table = (self.first if top_1 else self.frequency)[module][weighting]
        return (table[0] - table[1]).mean(dim=0)


def common_suffix(prompts: Sequence[Tokens], most: int) -> int:
    """How many last positions hold the same token in every prompt (those of the template); 1 to ``most``."""
    length = 0
    while length < min(most, *map(len, prompts)) and len({tokens[-1 - length] for tokens in prompts}) == 1:
        length += 1
    return max(length, 1)


def pair_samples(pairs: int, seeds: int, shuffles: int) -> Tensor:
    """(seeds + shuffles, pairs) weights: random two thirds of the pairs, then such samples with shuffled labels.

    A weight of -1 exchanges the labels of a pair. Samples are even and exactly half of a shuffled one is exchanged, so
    that the mean difference between the sides cancels and only what differs between pairs is left, refusal too. The
    samples of shuffle n and of seed n are the same.
    """
    rows = torch.zeros(seeds + shuffles, pairs)
    half = max(1, round(pairs / 3))
    for number in range(max(seeds, shuffles)):
        chosen = torch.randperm(pairs, generator=torch.Generator().manual_seed(number))[: 2 * half]
        if number < seeds:
            rows[number, chosen] = 1
        if number < shuffles:
            rows[seeds + number, chosen[:half]] = -1
            rows[seeds + number, chosen[half:]] = 1
    return rows


def collect(
    engine: Engine,
    harmful: Sequence[Tokens],
    benign: Sequence[Tokens],
    weights: Tensor,
    positions: int,
    *,
    for_experts: int | None = None,
) -> Collected:
    """Run every prompt once and accumulate.

    Args:
        engine: open.
        harmful: token ids of the harmful sides.
        benign: of the benign sides, in the same order.
        weights: (w, pairs) weightings, see :func:`pair_samples`.
        positions: how many last positions.
        for_experts: how many of the weightings, from the first on, experts' figures are kept for; all where None.
    """
    prompts = [*harmful, *benign]
    # Sides as each weighting sees them: an exchanged pair counts as benign with its harmful side.
    as_harmful = torch.cat([(weights > 0).float(), (weights < 0).float()], dim=1)
    as_benign = torch.cat([(weights < 0).float(), (weights > 0).float()], dim=1)
    sides = torch.stack([as_harmful, as_benign], dim=1)
    true_side = torch.tensor([0] * len(harmful) + [1] * len(benign))
    sums = _Sums(engine, sides, true_side, positions, len(weights) if for_experts is None else for_experts)
    with tapped(engine.hooks, sums):
        _pass(engine, prompts, sums)
    return sums.result(len(prompts))


def collect_against(
    engine: Engine, harmful: Sequence[Tokens], general: Sequence[Tokens], weights: Tensor, positions: int
) -> Tensor:
    """(w, layers, p, hidden) mean of the harmful sides that a weighting takes, minus that of general instructions."""
    ours = torch.cat([weights, torch.zeros(len(weights), len(general))], dim=1)
    theirs = torch.cat([torch.zeros_like(weights), torch.ones(len(weights), len(general))], dim=1)
    true_side = torch.tensor([0] * len(harmful) + [1] * len(general))
    sums = _Sums(engine, torch.stack([ours, theirs], dim=1), true_side, positions, 0)
    _pass(engine, [*harmful, *general], sums)
    means = sums.means()
    return means[:, 0] - means[:, 1]


def _pass(engine: Engine, prompts: Sequence[Tokens], sums: "_Sums") -> None:
    for batch in engine.batches(prompts):
        sums.start(batch, [len(prompts[n]) for n in batch])
        handles = [
            layer.register_forward_pre_hook(sums.layer(number), with_kwargs=True)
            for number, layer in enumerate(engine.parts.layers)
        ]
        try:
            engine.last_logits([prompts[n] for n in batch])
        finally:
            for handle in handles:
                handle.remove()


class _Sums:
    """The accumulators; memory grows with layers x experts x hidden, not with prompts."""

    def __init__(self, engine: Engine, sides: Tensor, true_side: Tensor, positions: int, for_experts: int) -> None:
        self.sides, self.true_side, self.positions = sides, true_side, positions
        self.for_experts = sides[:for_experts]
        self.counts = sides.sum(dim=2).clamp(min=1)
        layers = len(engine.parts.layers)
        self.residual: list[Tensor | None] = [None] * layers
        self.norm = torch.zeros(layers, positions)
        weightings = len(self.for_experts)
        experts = [count for _, _, count in engine.parts.experts]
        self.frequency = [torch.zeros(weightings, 2, positions, count) for count in experts]
        self.first = [torch.zeros(weightings, 2, positions, count) for count in experts]
        self.own: list[Tensor | None] = [None] * len(experts)
        self.mean: list[Tensor | None] = [None] * len(experts)
        self.own_norm = [torch.zeros(count) for count in experts]
        self.hits = [torch.zeros(2, count) for count in experts]
        self.counts_of = experts
        self.batch = torch.zeros(0, dtype=torch.long)
        self.places = torch.zeros(0, 0, dtype=torch.long)

    def start(self, batch: Sequence[int], lengths: Sequence[int]) -> None:
        """Set the rows of the next pass, padded on the right."""
        self.batch = torch.tensor(batch)
        self.places = torch.tensor(lengths)[:, None] - 1 - torch.arange(self.positions)[None, :]

    def layer(self, number: int) -> Any:
        """A hook that accumulates the input of one layer."""

        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            rows = torch.arange(len(self.batch), device=states.device)[:, None]
            picked = states[rows, self.places.to(states.device)].float().cpu()
            # Families with several residual streams: their mean stands for the stream.
            picked = picked.flatten(2, -2).mean(dim=2) if picked.dim() > 3 else picked
            added = torch.einsum("wsr,rph->wsph", self.sides[:, :, self.batch], picked)
            kept = self.residual[number]
            self.residual[number] = added if kept is None else kept + added
            self.norm[number] += picked.norm(dim=-1).sum(dim=0)

        return hook

    def needs(self, _module: int) -> tuple[bool, bool]:
        return True, True

    def routing(self, call: ExpertCall) -> ExpertCall:
        return call

    def total(self, _call: ExpertCall, summed: Tensor) -> Tensor:
        return summed

    def outputs(self, call: ExpertCall) -> ExpertCall:
        """Accumulate routing and own outputs at the last positions."""
        if call.outputs is None:
            return call
        rows, slots = len(self.batch), call.index.shape[1]
        width, count = len(call.index) // rows, self.counts_of[call.module]
        flat = (torch.arange(rows)[:, None] * width + self.places).to(call.index.device)
        index, weights = call.index[flat].cpu(), call.weights[flat].float().cpu()
        outputs = call.outputs[flat].float().cpu()
        on = (weights != 0) & (index < count)
        index = index.clamp(max=count - 1)
        sides = self.for_experts[:, :, self.batch]
        chosen = torch.zeros(rows, self.positions, count).scatter_add_(2, index, on.float()).clamp_(max=1)
        self.frequency[call.module] += torch.einsum("wsr,rpe->wspe", sides, chosen)
        best = weights.masked_fill(~on, -1.0).argmax(dim=2, keepdim=True)
        top = torch.zeros(rows, self.positions, count).scatter_(2, index.gather(2, best), 1.0)
        self.first[call.module] += torch.einsum("wsr,rpe->wspe", sides, top)
        self._own(call.module, index, outputs.masked_fill(~on.unsqueeze(-1), 0.0), on, slots)
        return call

    def _own(self, module: int, index: Tensor, outputs: Tensor, on: Tensor, slots: int) -> None:
        rows, hidden, count = len(self.batch), outputs.shape[-1], self.counts_of[module]
        kept, mean = self.own[module], self.mean[module]
        if kept is None or mean is None:
            kept = torch.zeros(self.positions, count, len(self.for_experts) * 2, hidden)
            mean = torch.zeros(2, count, hidden)
            self.own[module], self.mean[module] = kept, mean
        weight = self.for_experts[:, :, self.batch].reshape(-1, rows).T
        side = self.true_side[self.batch][:, None].expand(rows, slots).reshape(-1)
        for position in range(self.positions):
            expert = index[:, position].reshape(-1)
            out = outputs[:, position].reshape(-1, hidden)
            scaled = weight.repeat_interleave(slots, dim=0)[:, :, None] * out[:, None, :]
            kept[position].index_add_(0, expert, scaled)
            mean.view(-1, hidden).index_add_(0, side * count + expert, out)
            self.own_norm[module].index_add_(0, expert, out.norm(dim=-1))
            self.hits[module].view(-1).index_add_(0, side * count + expert, on[:, position].reshape(-1).float())

    def means(self) -> Tensor:
        """(w, 2 sides, layers, p, hidden) of the residual stream."""
        residual = torch.stack([kept for kept in self.residual if kept is not None], dim=2)
        return residual / self.counts[:, :, None, None, None]

    def result(self, prompts: int) -> Collected:
        """Sums to means and differences."""
        means = self.means()
        counts = self.counts[: len(self.for_experts)]
        own, mean = [], []
        for module, count in enumerate(self.counts_of):
            kept, summed = self.own[module], self.mean[module]
            if kept is None or summed is None:
                raise ValueError(f"experts module {module} was never called")
            hidden = kept.shape[-1]
            sums = kept.view(self.positions, count, -1, 2, hidden).permute(2, 3, 0, 1, 4)
            own.append(_own_difference(sums, self.frequency[module], counts))
            mean.append(summed / self.hits[module].clamp(min=1)[:, :, None])
        share = [table / counts[:, :, None, None] for table in self.frequency]
        top = [table / counts[:, :, None, None] for table in self.first]
        norms = [n / hits.sum(dim=0).clamp(min=1) for n, hits in zip(self.own_norm, self.hits, strict=True)]
        return Collected(
            means[:, 0] - means[:, 1],
            self.norm / prompts,
            tuple(share),
            tuple(top),
            tuple(own),
            tuple(mean),
            tuple(norms),
        )


def _own_difference(sums: Tensor, selected: Tensor, counts: Tensor) -> Tensor:
    """(w, p, experts, hidden) of sums (w, 2, p, experts, hidden) and counts of selections (w, 2, p, experts)."""
    conditional = sums / selected.clamp(min=1).unsqueeze(-1)
    share = sums / counts[:, :, None, None, None]
    both = ((selected[:, 0] > 0) & (selected[:, 1] > 0)).unsqueeze(-1)
    return torch.where(both, conditional[:, 0] - conditional[:, 1], share[:, 0] - share[:, 1])
