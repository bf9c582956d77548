"""Reading and writing files so that nothing half-written is ever left and damage is named."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DemurError
from .untrusted import SMALL_BYTES

T = TypeVar("T")
MOST_PARQUET_RATIO, MOST_ROWS = 1000, 20_000_000
"""What unpacks to more is a bomb: the same text again and again packs to a thousandth at most."""

__all__ = [
    "need_columns",
    "parquet_batches",
    "parquet_columns",
    "parquet_rows",
    "read_json",
    "read_parquet",
    "read_rows",
    "write_atomic",
    "write_json",
    "write_parquet",
    "write_parquet_groups",
    "write_text",
]

ROWS, BUFFER = 1024, 2**20


@contextmanager
def write_atomic(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it is synced and renamed to ``path``, else removed.

    ``mode`` is what the file gets, less what the umask takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(mode & ~umask)
        temporary.replace(path)
    except OSError as fault:
        raise DemurError(
            f"{path}: cannot write: {fault.strerror or fault}", "free space or choose another folder"
        ) from fault
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Write readable JSON, atomically. NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DemurError: the file is missing, not UTF-8 or not JSON; the line and column are named.
    """
    text = _reading(path, lambda: path.read_text(encoding="utf-8"))

    def no_constant(name: str) -> object:
        raise DemurError(f"{path}: {name} is not a JSON number", "write null or leave the key out")

    try:
        return json.loads(text, parse_constant=no_constant)
    except json.JSONDecodeError as fault:
        raise DemurError(
            f"{path}:{fault.lineno}:{fault.colno}: not valid JSON: {fault.msg}", "repair or remake the file"
        ) from fault
    except (ValueError, RecursionError) as fault:
        # A number of thousands of digits, or brackets nested by the ten thousand.
        raise DemurError(f"{path}: not readable as JSON: {fault}", "repair or remake the file") from fault


def write_parquet(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table with zstd compression, atomically; ``metadata`` goes into the file's schema."""
    if metadata:
        kept = table.schema.metadata or {}
        table = table.replace_schema_metadata({**kept, **{k.encode(): v.encode() for k, v in metadata.items()}})
    write_parquet_groups(path, table.schema, [table])


def write_parquet_groups(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, each as a row group of one file, atomically."""
    with (
        write_atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; where it holds checksums, as those that :func:`write_parquet` writes do, they are compared.

    Raises:
        DemurError: the file is missing, empty, truncated, damaged, or lacks one of ``columns`` or has it twice.
    """
    with _parquet(path) as opened:
        _check_columns(path, opened.schema_arrow.names, columns or ())
        table = opened.read(columns=columns)
    return table.select(columns) if columns else table


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns.

    Raises:
        DemurError: the file is missing, empty or truncated.
    """
    with _parquet(path) as opened:
        names: list[str] = opened.schema_arrow.names
        return names


def need_columns(path: Path, names: Sequence[str]) -> None:
    """See that a Parquet file has these columns, each once.

    Raises:
        DemurError: it has not, or is missing, empty or truncated.
    """
    _check_columns(path, parquet_columns(path), names)


def parquet_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file; its pages are read as they are needed, so that memory stays small.

    Raises:
        DemurError: the file is missing, empty, truncated or lacks one of ``columns``.
    """
    with _parquet(path) as opened:
        _check_columns(path, opened.schema_arrow.names, columns or ())
        for batch in opened.iter_batches(batch_size=ROWS, columns=columns):
            yield from batch.to_pylist()


def parquet_batches(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a Parquet file with known columns, 1,024 at a time; its pages are read as they are needed.

    Raises:
        DemurError: as :func:`read_rows`.
    """
    with _parquet(path) as opened:
        _check_columns(path, opened.schema_arrow.names, schema.names)
        for batch in opened.iter_batches(batch_size=ROWS, columns=schema.names):
            yield _cast(path, pa.Table.from_batches([batch]).select(schema.names), schema)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file, with every fault of reading it as one message."""
    if path.is_file() and path.stat().st_size == 0:
        raise DemurError(f"{path}: the file is empty", "remake it, or delete it and run the same command again")
    _reading(path, lambda: path.open("rb").close())
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True) as opened:
            about = opened.metadata
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            # No checksum covers the end of the file, which says how many rows there are, twice.
            if sum(group.num_rows for group in groups) != about.num_rows:
                raise pa.ArrowInvalid("it says two numbers of rows")
            _no_bomb(path, about.num_rows, sum(group.total_byte_size for group in groups))
            yield opened
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise DemurError(
            f"{path}: not a whole Parquet file (truncated or damaged)",
            "remake it, or delete it and run the same command again",
        ) from fault


def _check_columns(path: Path, there: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise DemurError(f"{path}: missing column {', '.join(missing)}; it has {', '.join(there)}", "remake the file")
    twice = [name for name in wanted if list(there).count(name) > 1]
    if twice:
        raise DemurError(f"{path}: column {', '.join(twice)} is there twice", "remake the file")


def _no_bomb(path: Path, rows: int, size: int) -> None:
    """Refuse a small file that says of itself that it unpacks to something huge."""
    packed = path.stat().st_size
    if size > max(SMALL_BYTES, MOST_PARQUET_RATIO * packed) or rows > max(MOST_ROWS, packed):
        raise DemurError(f"{path}: {packed} bytes that unpack to {rows} rows, {size} bytes", "make it anew")


def read_rows(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file whose columns and types are known.

    Raises:
        DemurError: as :func:`read_parquet`, or a column is of another type or has nulls where none may be.
    """
    return _cast(path, read_parquet(path, schema.names), schema)


def _cast(path: Path, table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return table.cast(schema.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as fault:
        raise DemurError(
            f"{path}: a column is not of its type: {str(fault).splitlines()[0][:200]}",
            "remake it, or delete it and run the same command again",
        ) from fault


def _reading(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except FileNotFoundError as fault:
        raise DemurError(f"{path}: no such file", "check the path") from fault
    except UnicodeDecodeError as fault:
        raise DemurError(f"{path}: not UTF-8 at byte {fault.start}", "save the file as UTF-8") from fault
    except OSError as fault:
        raise DemurError(
            f"{path}: cannot read: {fault.strerror or fault}", "check the path and its permissions"
        ) from fault
