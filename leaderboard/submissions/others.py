"""What other scorers said of the responses of a submission, and how far they agree with its own.

``others.parquet`` holds the labels, one column for each scorer, so that the agreement can be recomputed by anyone. It
is optional: runs that one scorer judged have none.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ...benchmark.files import write_parquet
from ...benchmark.records import SIDES
from ...scorers.agreement import Codes, codes_of, cohen_kappa, krippendorff_alpha
from ...scorers.verdicts import LABELS
from .identity import ScorerId
from .rows_file import read_rows
from .submitted import ScorerAgreement, SideAgreement

__all__ = ["OTHERS_FILE", "joined", "read_others", "scorer_agreement", "write_others"]

OTHERS_FILE = "others.parquet"
_KEYS = ("prompt_id", "sample")


def scorer_agreement(rows: pd.DataFrame, others: pd.DataFrame, scorers: Sequence[ScorerId]) -> list[ScorerAgreement]:
    """Agreement of the labels in ``rows`` with those of each other scorer.

    Args:
        rows: columns prompt_id, sample and label.
        others: rows of the same responses in the same order, with a column of labels named after each scorer.
        scorers: the others.
    """
    side = rows["prompt_id"].str.split("/").str[-2].to_numpy()
    own = codes_of(list(rows["label"]))
    found = []
    for scorer in scorers:
        other = codes_of(list(others[scorer.name]))
        parts = [np.ones(len(rows), dtype=bool), *(side == name for name in SIDES)]
        found.append(ScorerAgreement(scorer, *(_agreement(own[at], other[at]) for at in parts)))
    return found


def _agreement(own: Codes, other: Codes) -> SideAgreement:
    unscored = len(LABELS) - 1
    both = (own < unscored) & (other < unscored)
    n = int(both.sum())
    refused = LABELS.index("partial")
    same = float(((own[both] <= refused) == (other[both] <= refused)).mean()) if n else None
    return SideAgreement(n, same, cohen_kappa(own, other), krippendorff_alpha([own, other]))


def write_others(path: Path, others: pd.DataFrame) -> None:
    """Write the labels in the one form that :func:`read_others` takes."""
    write_parquet(path, pa.Table.from_pandas(others, schema=_schema(list(others.columns[2:])), preserve_index=False))


def read_others(path: Path, rows: pd.DataFrame, scorers: Sequence[ScorerId]) -> tuple[pd.DataFrame | None, list[str]]:
    """Read labels that a stranger wrote.

    Args:
        path: of the file.
        rows: the submission's own rows, checked.
        scorers: whose columns it must have.

    Returns:
        The labels in the order of ``rows``, None where they cannot be used, and what is wrong.
    """
    if path.is_symlink() or not path.is_file():
        return None, [f"{path.name} is not a plain file"]
    names = [scorer.name for scorer in scorers]
    found, faults = read_rows(path, len(rows), _schema(names))
    if found is None:
        return None, faults
    faults = [f"{path.name}: {fault}" for fault in _problems(found, rows, names)]
    return (None if faults else found), faults


def _problems(found: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    same = all((found[key].astype(object) == rows[key].astype(object)).all() for key in _KEYS)
    if not same:
        yield "its rows are not the responses of the submission"
    for name in names:
        bad = found.loc[~found[name].isin(list(LABELS)), name]
        if len(bad):
            yield f"{len(bad)} labels of {name} are none of {', '.join(LABELS)}, for example {str(bad.iloc[0])[:60]!r}"


def joined(keys: pd.DataFrame, labels: Mapping[str, pd.Series]) -> pd.DataFrame:
    """A table for :func:`write_others`: keys, and each scorer's labels in the order of the keys."""
    return pd.DataFrame({**{key: keys[key] for key in _KEYS}, **{name: list(said) for name, said in labels.items()}})


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([("prompt_id", pa.string()), ("sample", pa.int32()), *((name, pa.string()) for name in names)])
