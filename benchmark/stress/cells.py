"""The rows that the sweep writes: one measured value each, labels and figures only."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa

from ..files import read_rows, write_parquet

__all__ = ["Cell", "Phase", "read_cells", "write_cells"]

Phase = Literal["own", "search", "chosen", "test"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One row.

    Attributes:
        phase: ``own``: the model unsteered; ``search``: a candidate on validation pairs; ``chosen``: the candidate
            and dose that the search chose; ``test``: the chosen candidate on test pairs.
        system: S1 to S5; empty for ``own``.
        arm: ``real`` or a control.
        candidate: the candidate's name.
        mode: ``suppress`` or ``induce``; empty for ``own``.
        dose: share of the activation's norm, or of what is removed.
        side: of the prompt; empty for ``chosen``.
        pair_id: of the prompt; empty where the row is a mean.
        prompts: how many prompts the row is a mean over; for ``chosen`` how many candidates were tried.
        log_odds: log-odds that a refusal opens the answer.
        kl: nats between the edited and the model's own next-token distribution.
        judgement: of a short answer; empty where none was generated.
    """

    phase: Phase
    system: str = ""
    arm: str = "real"
    seed: int = 0
    candidate: str = ""
    mode: str = ""
    dose: float = 0.0
    side: str = ""
    pair_id: str = ""
    prompts: int = 1
    log_odds: float = 0.0
    kl: float = 0.0
    judgement: str = ""


_NUMBERS = {
    "seed": pa.int64(),
    "prompts": pa.int64(),
    "dose": pa.float64(),
    "log_odds": pa.float64(),
    "kl": pa.float64(),
}
_SCHEMA = pa.schema([(field.name, _NUMBERS.get(field.name, pa.string())) for field in fields(Cell)])


def write_cells(path: Path, cells: Iterable[Cell]) -> None:
    """Write rows as Parquet, atomically."""
    write_parquet(path, pa.Table.from_pylist([asdict(cell) for cell in cells], schema=_SCHEMA))


def read_cells(path: Path) -> list[Cell]:
    """Read rows.

    Raises:
        DemurError: the file is missing or damaged.
    """
    return [Cell(**row) for row in read_rows(path, _SCHEMA).to_pylist()]
