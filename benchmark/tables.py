"""Tables that others made: CSV, JSON Lines or Parquet."""

import io
from pathlib import Path

import pandas as pd

from .errors import DemurError
from .files import read_parquet
from .untrusted import json_lines, unpacked

__all__ = ["read_table"]


def read_table(path: Path | str) -> pd.DataFrame:
    """Read CSV, JSON Lines (both also as ``.gz``) or Parquet; every value of CSV stays text.

    Raises:
        DemurError: unknown ending, missing, empty or damaged file.
    """
    path = Path(path)
    kind = path.name.removesuffix(".gz").rsplit(".", maxsplit=1)[-1].lower()
    if kind not in ("csv", "jsonl", "parquet"):
        raise DemurError(f"{path}: unknown kind of table", "give a .csv, .jsonl (both also as .gz) or .parquet file")
    if not path.is_file():
        raise DemurError(f"{path}: no such file", "check the path")
    table = _read(path, kind)
    twice = sorted({str(name) for name in table.columns[table.columns.duplicated()]})
    if twice:
        raise DemurError(f"{path}: column {', '.join(twice)[:200]} is there twice", "rename or drop one of them")
    if not len(table):
        raise DemurError(f"{path}: no rows", "give a table with at least one row")
    return table


def _read(path: Path, kind: str) -> pd.DataFrame:
    if kind == "parquet":
        frame: pd.DataFrame = read_parquet(path).to_pandas()
        return frame
    content = io.BytesIO(unpacked(path))
    try:
        if kind == "csv":
            return pd.read_csv(content, dtype=str, keep_default_na=False)
        # Rows as they stand: pandas.read_json joins lone surrogates to other characters and makes dates.
        return pd.DataFrame([row for _, row in json_lines(path, content)])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as fault:
        raise DemurError(f"{path}: cannot be read: {str(fault)[:200]}", "check that the file is whole") from fault
