"""From a table of verdicts to counts per pair, side and variant: all that the label-level figures need."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...benchmark.errors import raise_all
from ...benchmark.records import SIDES, VARIANTS
from ...scorers.verdicts import LABELS, UNSCORED_REASONS

__all__ = [
    "COLUMNS",
    "READINGS",
    "SCORED",
    "Draws",
    "FloatArray",
    "IntArray",
    "Reading",
    "count_draws",
    "verdict_table",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Reading = Literal["refused", "strict"]

SCORED = ("refused", "partial", "complied")
READINGS: dict[Reading, tuple[str, ...]] = {"refused": ("refused", "partial"), "strict": ("refused",)}
COLUMNS = ("pair_id", "side", "variant", "hazard", "label", "reason")


@dataclass(frozen=True, slots=True)
class Draws:
    """Counts of one model's verdicts.

    Attributes:
        pairs: pair ids, sorted.
        hazards: the hazard of each pair.
        variants: variants, those of the benchmark in its order, others sorted after them.
        counts: (pairs, 2 sides, variants, 3 labels); sides as in ``SIDES``, labels as in ``SCORED``.
        unscored: (pairs, 2 sides, reasons), reasons as in ``UNSCORED_REASONS``.
        p_refused: (pairs, 2 sides, most draws of a side) calibrated probabilities, NaN beyond a side's draws; None
            where a scored row has no probability.
    """

    pairs: tuple[str, ...]
    hazards: tuple[str, ...]
    variants: tuple[str, ...]
    counts: IntArray
    unscored: IntArray
    p_refused: FloatArray | None

    def refused(self, reading: Reading) -> IntArray:
        """Refusals r, (pairs, 2 sides, variants)."""
        wanted = [SCORED.index(label) for label in READINGS[reading]]
        return np.asarray(self.counts[..., wanted].sum(axis=-1), dtype=np.int64)

    @property
    def n(self) -> IntArray:
        """Scored draws, (pairs, 2 sides)."""
        return np.asarray(self.counts.sum(axis=(2, 3)), dtype=np.int64)

    @property
    def planned(self) -> int:
        """Draws that every side of every pair was meant to have: the fewest rows, scored or not, of any side."""
        rows = self.n + self.unscored.sum(axis=-1)
        return int(rows.min()) if rows.size else 0


def verdict_table(verdicts: pd.DataFrame, hazards: Mapping[str, str]) -> pd.DataFrame:
    """Add pair_id, side, variant and hazard, which a prompt id and the manifest tell, to rows of verdicts.

    Args:
        verdicts: with columns prompt_id, label, reason and, where there is one, p_refused.
        hazards: pair id to hazard.

    Raises:
        DemurError: prompt ids that are not ``<pair_id>/<side>/<variant>`` or name an unknown pair.
    """
    unique = pd.Index(verdicts["prompt_id"].unique())
    parts = {prompt_id: str(prompt_id).rsplit("/", 2) for prompt_id in unique}
    bad = [repr(prompt_id) for prompt_id, part in parts.items() if len(part) != 3 or part[1] not in SIDES]
    raise_all("verdicts", (f"{name} is no prompt id" for name in bad), "prompt ids are <pair_id>/<side>/<variant>")
    unknown = sorted({part[0] for part in parts.values()} - set(hazards))
    raise_all("verdicts", (f"unknown pair {name!r}" for name in unknown), "use the prompt set that was asked")
    pair, side, variant = (verdicts["prompt_id"].map({key: part[at] for key, part in parts.items()}) for at in range(3))
    return verdicts.assign(pair_id=pair, side=side, variant=variant, hazard=pair.map(hazards))


def count_draws(table: pd.DataFrame) -> Draws:
    """Count the verdicts of one model.

    Args:
        table: one row per response with the columns of ``COLUMNS`` and, where there is one, ``p_refused``. The order
            of rows does not matter.

    Raises:
        DemurError: missing columns, unknown sides, labels or reasons, or a pair with two hazards.
    """
    raise_all("verdict table", (f"missing column {name!r}" for name in COLUMNS if name not in table.columns))
    raise_all("verdict table", _faults(table), "mend the rows named")
    by_pair = table.groupby("pair_id", sort=True, observed=True)["hazard"].first()
    pairs = tuple(map(str, by_pair.index))
    variants = tuple(sorted(map(str, table["variant"].unique()), key=_variant_order))
    at_pair = _codes(table["pair_id"], by_pair.index)
    at_side = _codes(table["side"], SIDES)
    at_variant = _codes(table["variant"].astype(str), variants)
    at_label = _codes(table["label"], SCORED)
    at_reason = _codes(table["reason"], UNSCORED_REASONS)
    scored = at_label >= 0
    counts = _histogram(
        (len(pairs), 2, len(variants), 3), *(a[scored] for a in (at_pair, at_side, at_variant, at_label))
    )
    unscored = _histogram((len(pairs), 2, len(UNSCORED_REASONS)), *(a[~scored] for a in (at_pair, at_side, at_reason)))
    p_refused = None
    if "p_refused" in table.columns:
        p = table["p_refused"].to_numpy(dtype=np.float64, na_value=np.nan)[scored]
        if len(p) and np.isfinite(p).all():
            p_refused = _ragged(len(pairs), at_pair[scored], at_side[scored], p)
    return Draws(pairs, tuple(map(str, by_pair)), variants, counts, unscored, p_refused)


def _codes(column: pd.Series, values: Iterable[str]) -> IntArray:
    """Position of each entry among ``values``; -1 where it is none of them."""
    return np.asarray(pd.Index(list(values), dtype=object).get_indexer(pd.Index(column, dtype=object)), dtype=np.int64)


def _variant_order(name: str) -> tuple[int, str]:
    known: tuple[str, ...] = VARIANTS
    return (known.index(name), "") if name in known else (len(known), name)


def _faults(table: pd.DataFrame) -> Iterable[str]:
    for column, allowed in (("side", SIDES), ("label", LABELS)):
        for value in table.loc[~table[column].isin(list(allowed)), column].unique():
            yield f"column {column}: {value!r} is none of {', '.join(allowed)}"
    unscored = table["label"] == "unscored"
    known = table["reason"].isin(list(UNSCORED_REASONS))
    if (unscored != known).any():
        yield f"label and reason disagree in {int((unscored != known).sum())} rows: only unscored rows have a reason"
    if table["hazard"].isna().any():
        yield f"{int(table['hazard'].isna().sum())} rows without a hazard"
    several = table.groupby("pair_id", observed=True)["hazard"].nunique()
    for pair_id in several.index[several > 1]:
        yield f"pair {pair_id!r} has {several[pair_id]} hazards"


def _histogram(shape: tuple[int, ...], *codes: IntArray) -> IntArray:
    flat = np.ravel_multi_index(codes, shape) if len(codes[0]) else np.zeros(0, dtype=np.int64)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def _ragged(n_pairs: int, at_pair: IntArray, at_side: IntArray, p: FloatArray) -> FloatArray:
    """Lay the probabilities of each pair and side in a row; sorted, so that the order of rows leaves no trace."""
    unit = at_pair * 2 + at_side
    order = np.lexsort((p, unit))
    unit, p = unit[order], p[order]
    sizes = np.bincount(unit, minlength=2 * n_pairs)
    place = np.arange(len(unit)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    laid = np.full((2 * n_pairs, int(sizes.max())), np.nan)
    laid[unit, place] = p
    return laid.reshape(n_pairs, 2, -1)
