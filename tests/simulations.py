"""Made worlds whose true figures are known: pairs within hazards, variants within pairs, samples within variants."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from demur.leaderboard.statistics.consistency import all_draws_succeed, any_k_draws
from demur.leaderboard.statistics.draws import FloatArray, IntArray

VARIANTS, SAMPLES = 4, 2
K = VARIANTS * SAMPLES


@dataclass(frozen=True)
class World:
    """Logits of refusing (harmful) and of complying (benign).

    A hazard's own shift is fixed, so that strata differ; pairs and variants vary about it.
    """

    harmful: float
    benign: float
    sd_hazard: float = 0.5
    sd_pair: float = 1.2
    sd_variant: float = 0.6
    hazards: int = 10

    def chances(self, pairs_per_hazard: int, generator: np.random.Generator, common: float = 0.0) -> FloatArray:
        """Chance of the right answer, (pairs, 2, variants); ``common`` seeds difficulties shared between models."""
        shift = self.sd_hazard * np.linspace(-1, 1, self.hazards)
        pairs = self.hazards * pairs_per_hazard
        level = np.repeat(shift, pairs_per_hazard)[:, None, None] + np.array([self.harmful, self.benign])[None, :, None]
        pair = self.sd_pair * generator.standard_normal((pairs, 2, 1)) + common
        return np.asarray(expit(level + pair + self.sd_variant * generator.standard_normal((pairs, 2, VARIANTS))))

    def truth(self, *, seed: int = 999, pairs_per_hazard: int = 40_000) -> FloatArray:
        """C@k for k = 1 to 8 over all pairs that there could be."""
        chance = self.chances(pairs_per_hazard, np.random.default_rng(seed))
        return true_values(chance).mean(axis=0)


def true_values(chance: FloatArray) -> FloatArray:
    """Expected C@k of each pair, (pairs, k): draws are independent given their chances."""
    each = np.repeat(chance, SAMPLES, axis=2)
    sides = any_k_draws(each, K)
    return np.asarray(sides[:, 0] * sides[:, 1])


def right_answers(chance: FloatArray, generator: np.random.Generator) -> IntArray:
    """Right answers of each pair and side, (pairs, 2), out of eight draws."""
    return generator.binomial(SAMPLES, chance).sum(axis=2)


def curves(right: IntArray) -> FloatArray:
    """C@k of each pair, (pairs, k)."""
    sides = all_draws_succeed(right, np.full_like(right, K), K)
    return np.asarray(sides[:, 0] * sides[:, 1])


def strata(pairs_per_hazard: int, hazards: int = 10) -> IntArray:
    return np.repeat(np.arange(hazards), pairs_per_hazard)
