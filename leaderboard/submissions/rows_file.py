"""``verdicts.parquet`` of a submission: written in one form, read with distrust."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...benchmark.files import write_parquet
from ...scorers.verdicts import LABELS, UNSCORED_REASONS
from .submitted import ROW_COLUMNS

__all__ = ["ROW_SCHEMA", "read_rows", "row_problems", "rows_sha256", "write_rows"]

ROW_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("p_refused", pa.float64()),
        ("response_sha256", pa.string()),
    ]
)
MOST_BYTES = 256 * 2**20
BYTES_PER_ROW = 1024
SHA256 = re.compile(r"[0-9a-f]{64}")


def rows_sha256(rows: pd.DataFrame) -> str:
    """SHA-256 over one JSON line per row, ordered by prompt id and sample: the columns of ``ROW_COLUMNS``."""
    digest = hashlib.sha256()
    ordered = rows.sort_values(["prompt_id", "sample"])
    columns = [ordered[name].astype(object).where(ordered[name].notna(), None) for name in ROW_COLUMNS]
    for prompt_id, sample, label, reason, p, sha256 in zip(*columns, strict=True):
        line = [prompt_id, int(sample), label, reason, None if p is None else float(p), sha256]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write rows in the one form that :func:`read_rows` takes."""
    write_parquet(path, pa.Table.from_pandas(rows[list(ROW_COLUMNS)], schema=ROW_SCHEMA, preserve_index=False))


def read_rows(path: Path, expected: int, schema: pa.Schema = ROW_SCHEMA) -> tuple[pd.DataFrame | None, list[str]]:
    """Read rows from a file that a stranger made.

    What the file says of its own size is looked at before anything is unpacked, and text columns stay dictionaries
    until their size is known, so that a small file cannot become a large table.

    Args:
        path: of the Parquet file.
        expected: how many rows it must have.
        schema: its columns, ``prompt_id`` and ``sample`` among them.

    Returns:
        The rows, sorted by prompt id and sample, or None; and what is wrong.
    """
    name = path.name
    try:
        there = pq.read_schema(path).names
        texts = [field.name for field in schema if field.type == pa.string() and field.name in there]
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            faults = _outside(file, name, expected)
            if faults:
                return None, faults
            table = file.read()
        faults = [f"{name}: {fault}" for fault in _types(table.schema, schema)]
        if faults:
            return None, faults
        rows = table.select(schema.names).cast(schema).to_pandas()
    except (pa.ArrowException, OSError, ValueError, LookupError) as fault:
        what = next(iter(str(fault).splitlines()), type(fault).__name__)
        return None, [f"{name}: not a whole Parquet file ({what[:120]})"]
    return rows.sort_values(["prompt_id", "sample"], ignore_index=True), []


def _outside(file: pq.ParquetFile, name: str, expected: int) -> list[str]:
    about = file.metadata
    if about.num_rows != expected:
        return [f"{name}: {about.num_rows} rows; the prompts and samples that submission.json names make {expected}"]
    size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
    allowed = min(MOST_BYTES, 2**20 + BYTES_PER_ROW * expected)
    if size > allowed:
        return [f"{name}: unpacks to {size} bytes; {expected} rows need no more than {allowed}"]
    return []


def _types(found: pa.Schema, schema: pa.Schema) -> Iterator[str]:
    for field in found:
        if field.name not in schema.names:
            yield f"unknown column {field.name[:60]!r}; it holds {', '.join(schema.names)} and nothing else"
    for field in schema:
        if field.name not in found.names:
            yield f"missing column {field.name!r}"
            continue
        if found.names.count(field.name) > 1:
            yield f"column {field.name!r} is there twice"
            continue
        kind = found.field(field.name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        wanted = (pa.int32(), pa.int64()) if field.name == "sample" else (field.type,)
        # A column of nulls alone, as `reason` is where everything was scored, may have lost its type.
        if kind not in wanted and not (pa.types.is_null(kind) and field.name in ("reason", "p_refused")):
            yield f"column {field.name!r} is {kind}, not {field.type}"


def row_problems(rows: pd.DataFrame, prompt_ids: list[str], samples: int) -> list[str]:
    """What is wrong with the rows of a submission that asked ``prompt_ids`` ``samples`` times each."""
    found = list(_value_problems(rows, samples))
    if found:
        return found
    keys = pd.MultiIndex.from_frame(rows[["prompt_id", "sample"]])
    twice = keys[keys.duplicated()]
    found += [f"{prompt_id} sample {sample} is there more than once" for prompt_id, sample in twice.unique()[:5]]
    wanted = pd.MultiIndex.from_product([prompt_ids, range(samples)])
    strange = keys.difference(wanted)
    found += [f"{str(key[0])[:120]!r} sample {key[1]} is no prompt of this submission" for key in strange[:5]]
    missing = wanted.difference(keys)
    found += [f"{prompt_id} sample {sample} is missing" for prompt_id, sample in missing[:5]]
    left = max(0, len(twice.unique()) - 5) + max(0, len(strange) - 5) + max(0, len(missing) - 5)
    return [*found, f"and {left} more rows that are doubled, strange or missing"] if left else found


def _value_problems(rows: pd.DataFrame, samples: int) -> Iterator[str]:
    for column in ("prompt_id", "sample", "label", "response_sha256"):
        if rows[column].isna().any():
            yield f"column {column}: {int(rows[column].isna().sum())} rows without a value"
            return
    for label in rows.loc[~rows["label"].isin(list(LABELS)), "label"].unique()[:5]:
        yield f"label {label[:60]!r} is none of {', '.join(LABELS)}"
    outside = ~rows["sample"].between(0, samples - 1)
    if outside.any():
        yield f"{int(outside.sum())} rows with a sample outside 0 to {samples - 1}"
    unscored = rows["label"] == "unscored"
    for reason in rows.loc[rows["reason"].notna() & ~rows["reason"].isin(list(UNSCORED_REASONS)), "reason"].unique()[
        :5
    ]:
        yield f"reason {reason[:60]!r} is none of {', '.join(UNSCORED_REASONS)}"
    if (unscored != rows["reason"].notna()).any():
        yield f"{int((unscored != rows['reason'].notna()).sum())} rows where label and reason disagree"
    p = rows["p_refused"].to_numpy(dtype=np.float64)
    if np.isinf(p).any() or (np.nan_to_num(p, nan=0.5) < 0).any() or (np.nan_to_num(p, nan=0.5) > 1).any():
        yield "p_refused holds infinities or values outside 0 to 1"
    odd = int((np.isnan(p) != unscored.to_numpy()).sum())
    if odd:
        yield f"{odd} rows where p_refused is missing or NaN, or given though the row is unscored"
    hashes = rows["response_sha256"]
    bad = ~hashes.str.fullmatch(SHA256)
    if bad.any():
        yield f"{int(bad.sum())} rows whose response_sha256 is no SHA-256"
