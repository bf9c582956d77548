"""What the candidates of one system, arm and seed are made from."""

import torch
from torch import Tensor

from .anatomy import Anatomy
from .prepare import Prepared
from .settings import Arm, System

__all__ = ["World"]


class World:
    """What candidates of one arm and seed are made from."""

    def __init__(self, prepared: Prepared, parts: Anatomy, arm: Arm, seed: int, system: System) -> None:
        self.collected, self.parts, self.arm = prepared.collected, parts, arm
        self.named = prepared.settings.named
        self.seed = seed
        self.weighting = prepared.seeds + seed if arm == "shuffled_labels" else seed
        # (layers, positions, hidden) mean difference of the residual stream
        self.residual = prepared.collected.residual[self.weighting]
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
