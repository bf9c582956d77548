"""How fast the bootstrap of the leaderboard is, as a ratio in one process against ``scipy.stats.bootstrap``."""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .statistics.consistency import all_draws_succeed
from .statistics.draws import FloatArray
from .statistics.uncertainty import Intervals, bootstrap, strata_of, stratified_weights

__all__ = ["BenchResult", "bench_leaderboard"]

HAZARDS = 10
BATCH = 1000


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured; times in seconds of processor time, so that other work on the machine does not count.

    Attributes:
        ours: all models, resampling included.
        scipy_model: one model by ``scipy.stats.bootstrap``, the mean of those measured.
        ratio: scipy for all models (its time grows with their number) over ours.
        peak_mib: peak memory of the process after our part.
        growth: models to seconds of our part.
        gap: largest distance between our interval ends and scipy's, as a share of the interval's width.
        scipy_gap: the same of scipy with one seed and with another: the Monte-Carlo error of such a comparison.
    """

    models: int
    pairs: int
    k: int
    replicates: int
    ours: float
    scipy_model: float
    scipy_models: int
    ratio: float
    peak_mib: float
    growth: dict[int, float]
    gap: float
    scipy_gap: float


def bench_leaderboard(
    *,
    models: int = 200,
    pairs: int = 480,
    k: int = 8,
    replicates: int = 10_000,
    scipy_models: int = 5,
    growth: Sequence[int] = (125, 250, 500, 1000),
) -> BenchResult:
    """Time BCa and percentile intervals of C@1 to C@k of many models, ours and scipy's.

    Both resample pairs within hazards, m of m, so that the intervals can be compared; scipy runs vectorised over k and
    in batches, a model at a time, on ``scipy_models`` of the models.
    """
    values = _models(models, pairs, k)
    started = time.process_time()
    found = _ours(values, replicates)
    ours = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    started = time.process_time()
    ends = [_scipy(values[:, model], replicates, model) for model in range(scipy_models)]
    scipy_model = (time.process_time() - started) / scipy_models
    again = [_scipy(values[:, model], replicates, scipy_models + model) for model in range(scipy_models)]
    own = [found.bca[:, model * k : (model + 1) * k] for model in range(scipy_models)]
    grown = {}
    for count in growth:
        many = _models(count, pairs, k)
        started = time.process_time()
        _ours(many, replicates)
        grown[count] = time.process_time() - started
    return BenchResult(
        models=models,
        pairs=pairs,
        k=k,
        replicates=replicates,
        ours=ours,
        scipy_model=scipy_model,
        scipy_models=scipy_models,
        ratio=scipy_model * models / ours,
        peak_mib=peak,
        growth=grown,
        gap=_largest_gap(own, ends),
        scipy_gap=_largest_gap(again, ends),
    )


def _models(models: int, pairs: int, k: int) -> FloatArray:
    """(pairs, models, k) per-pair C@1..C@k of made models with eight draws a side."""
    generator = np.random.default_rng(7)
    chance = generator.beta(6, np.linspace(0.2, 6, models)[:, None, None], (models, pairs, 2))
    right = generator.binomial(k, chance)
    sides = all_draws_succeed(right, np.full_like(right, k), k)
    return np.ascontiguousarray((sides[:, :, 0] * sides[:, :, 1]).transpose(1, 0, 2))


def _hazards(pairs: int) -> list[str]:
    return [f"hazard-{number * HAZARDS // pairs}" for number in range(pairs)]


def _ours(values: FloatArray, replicates: int) -> Intervals:
    strata = strata_of(_hazards(len(values)))
    weights = stratified_weights(strata, replicates, rescaled=False)
    return bootstrap(values.reshape(len(values), -1), weights, strata)


def _scipy(values: FloatArray, replicates: int, seed: int) -> FloatArray:
    """(2, k) BCa ends of one model; ``values`` is (pairs, k)."""
    strata = strata_of(_hazards(len(values)))
    samples = [values[strata == stratum].T for stratum in range(HAZARDS)]
    sizes = [sample.shape[1] for sample in samples]

    def stratified_mean(*parts: FloatArray, axis: int) -> FloatArray:
        sums = [part.mean(axis=axis) * size for part, size in zip(parts, sizes, strict=True)]
        return np.asarray(np.sum(sums, axis=0) / sum(sizes), dtype=np.float64)

    found = stats.bootstrap(
        samples, stratified_mean, n_resamples=replicates, batch=BATCH, vectorized=True, axis=-1, method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return np.stack([found.low, found.high])


def _largest_gap(some: Sequence[FloatArray], others: Sequence[FloatArray]) -> float:
    gaps = [np.abs(one - other) / (other[1] - other[0]) for one, other in zip(some, others, strict=True)]
    return float(np.max(gaps))
