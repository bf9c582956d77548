"""What the candidates of one system, arm and seed are made from."""

import torch
from torch import Tensor

from .anatomy import Anatomy
from .prepare import Prepared
from .settings import Arm, System

__all__ = ["World", "without_span"]


def without_span(vectors: Tensor, others: Tensor) -> Tensor:
    """The part of each vector that is orthogonal to all the others; zero where nothing but rounding is left.

    Args:
        vectors: (..., hidden).
        others: (..., hidden), linearly dependent ones among them or not.
    """
    rows = others.reshape(-1, others.shape[-1]).double()
    rows = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes.max()]
    wide = vectors.double()
    left = wide - wide @ basis.T @ basis
    some = left.norm(dim=-1, keepdim=True) > 1e-5 * wide.norm(dim=-1, keepdim=True)
    found: Tensor = (left * some).to(vectors.dtype)
    return found


class World:
    """What candidates of one arm and seed are made from."""

    def __init__(self, prepared: Prepared, parts: Anatomy, arm: Arm, seed: int, system: System) -> None:
        self.collected, self.parts, self.arm = prepared.collected, parts, arm
        self.named = prepared.settings.named
        self.seed = seed
        self.seeds = prepared.seeds
        self.weighting = prepared.seeds + seed if arm == "shuffled_labels" else seed
        # (layers, positions, hidden) mean difference of the residual stream
        self.residual = prepared.collected.residual[self.weighting]
        if arm == "shuffled_labels":
            # The direction of refusal differs from layer to layer, and a removal is applied at all of them.
            real = prepared.collected.residual[: prepared.seeds].mean(dim=0)
            self.residual = without_span(self.residual, real)
        if arm == "general_instructions" and prepared.against_general is not None:
            self.residual = prepared.against_general[seed]
        self.random = torch.Generator().manual_seed(1_000_003 * (seed + 1) + sum(map(ord, system + arm)))

    def unit(self, vector: Tensor) -> Tensor:
        """The unit vector along ``vector``, or a random one in the arm of random directions."""
        if self.arm == "random_direction":
            vector = torch.randn(vector.shape, generator=self.random)
        unit: Tensor = vector / vector.norm().clamp(min=1e-12)
        return unit

    @property
    def positions(self) -> int:
        """Last prompt positions that were collected."""
        return int(self.collected.residual.shape[2])

    def difference(self, module: int, *, top_1: bool = False) -> Tensor:
        """(experts,) routing difference."""
        return self.collected.routing_difference(module, self.weighting, top_1=top_1)

    def own(self, module: int, position: int, expert: int) -> Tensor:
        """(hidden,) difference of an expert's own output; of shuffled labels what the real ones do not hold of it."""
        table = self.collected.own[module][:, :, expert]
        mine = table[self.weighting, position]
        return without_span(mine, table[: self.seeds].mean(dim=0)) if self.arm == "shuffled_labels" else mine

    def instead(self, members: list[tuple[int, int]], pool: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The members, or in the arm of random experts as many others of the pool; fewer where the pool is small.

        The members themselves are left out: of few experts a random set would hold them too often to be a control.
        """
        if self.arm != "random_expert":
            return members
        others = sorted(set(pool) - set(members))
        return [others[int(n)] for n in torch.randperm(len(others), generator=self.random)[: len(members)]]

    def experts(self) -> list[tuple[int, int]]:
        """(module, expert) of every expert that some training prompt selects at the last positions."""
        return [
            (module, int(expert))
            for module in range(len(self.parts.experts))
            for expert in (self.collected.own_norm[module] > 0).nonzero()
        ]

    def size(self, module: int, expert: int) -> float:
        """Norm of the difference of an expert's own output, weighted by how often it is selected, over its norm."""
        own = self.collected.own[module][self.weighting, :, expert].norm(dim=-1).max()
        often = self.collected.frequency[module][self.weighting, :, :, expert].mean()
        return float(own * often / self.collected.own_norm[module][expert].clamp(min=1e-12))
