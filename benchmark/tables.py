"""Tables that others made: CSV, JSON Lines or Parquet."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import DemurError
from .files import read_parquet

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
    if not len(table):
        raise DemurError(f"{path}: no rows", "give a table with at least one row")
    return table


def _read(path: Path, kind: str) -> pd.DataFrame:
    if kind == "parquet":
        frame: pd.DataFrame = read_parquet(path).to_pandas()
        return frame
    try:
        if kind == "csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return _json_lines(path)
    except (ValueError, OSError, EOFError, zlib.error) as fault:
        raise DemurError(f"{path}: cannot be read: {str(fault)[:200]}", "check that the file is whole") from fault


def _json_lines(path: Path) -> pd.DataFrame:
    """Rows as they stand. Not ``pandas.read_json``, which joins lone surrogates to other characters and makes dates."""
    opened = gzip.open if path.name.endswith(".gz") else open
    rows: list[dict[str, Any]] = []
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as fault:
                raise DemurError(f"{path}:{number}: cannot be read: {fault}", "correct that line") from fault
            if not isinstance(row, dict):
                raise DemurError(f"{path}:{number}: a {type(row).__name__}, not an object", "write one object a line")
            rows.append(row)
    return pd.DataFrame(rows)
