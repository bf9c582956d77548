"""Two submissions side by side, on the same resamples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..benchmark.errors import DemurError
from .contrasts import widened
from .rows import headline_column
from .statistics.consistency import RANKING_K
from .statistics.figures import RATES, pair_figures
from .statistics.hazards import benjamini_hochberg, paired_p
from .statistics.uncertainty import REPLICATES, SEED, bootstrap, estimates, strata_of, stratified_weights
from .statistics.values import AgainstOthers, Estimate
from .submissions.submitted import Submission

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences, first minus second, in the default reading.

    Attributes:
        figures: figure to (first, second, difference with its interval).
        hazards: hazard to the difference of C@4, its p-value and its q-value over the hazards.
        agreement: share of (prompt, sample) with the same label, where both drew as many samples.
    """

    figures: dict[str, tuple[float | None, float | None, Estimate]]
    hazards: dict[str, AgainstOthers]
    agreement: float | None


def compare(first: Submission, second: Submission, replicates: int = REPLICATES) -> Comparison:
    """Compare two submissions pair by pair.

    Raises:
        DemurError: other prompts or another scorer; their figures cannot be compared.
    """
    a, b = first.info, second.info
    if (a.prompts, first.draws.pairs) != (b.prompts, second.draws.pairs):
        raise DemurError(f"{a.id} and {b.id} asked other prompts", "compare submissions of the same prompts")
    if a.scorer != b.scorer:
        raise DemurError(f"{a.id} and {b.id} were scored by other scorers", "score both with the same one")
    columns = []
    for one in (first, second):
        of_pairs = pair_figures(one.draws, "refused")
        columns.append(np.column_stack([headline_column(one.draws, of_pairs), of_pairs.rates]))
    gap = columns[0] - columns[1]
    # A difference of chances lies in [-1, 1], one of discriminations in [-2, 2]; the bootstrap works on [0, 1].
    names = (f"C@{RANKING_K}", *RATES)
    scale = np.where(np.array(names) == "discrimination", 2.0, 1.0)
    strata = strata_of(first.draws.hazards)
    weights = stratified_weights(strata, replicates, SEED)
    found = estimates(bootstrap((gap / scale + 1) / 2, weights, strata))
    figures = {
        name: (_mean(columns[0][:, at]), _mean(columns[1][:, at]), widened(found[at], float(scale[at])))
        for at, name in enumerate(names)
    }
    return Comparison(figures, _hazards(gap[:, 0], first.draws.hazards), _agreement(first, second))


def _mean(column: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    there = column[~np.isnan(column)]
    return float(there.mean()) if len(there) else None


def _hazards(
    gap: np.ndarray[tuple[int, ...], np.dtype[np.float64]], hazards: Sequence[str]
) -> dict[str, AgainstOthers]:
    names = np.asarray(hazards)
    parts = {hazard: gap[(names == hazard) & ~np.isnan(gap)] for hazard in sorted(set(hazards))}
    tested = {hazard: (float(part.mean()), paired_p(part)) for hazard, part in parts.items() if len(part)}
    q = benjamini_hochberg(np.array([p for _, p in tested.values()]))
    return {
        hazard: AgainstOthers(mean, p, float(one)) for (hazard, (mean, p)), one in zip(tested.items(), q, strict=True)
    }


def _agreement(first: Submission, second: Submission) -> float | None:
    keys = ["prompt_id", "sample"]
    if not first.verdicts[keys].equals(second.verdicts[keys]):
        return None
    return float((first.verdicts["label"].to_numpy() == second.verdicts["label"].to_numpy()).mean())
