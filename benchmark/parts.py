"""The responses of a run on disk: a part per answered batch, and in the end one table."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import DemurError
from .files import parquet_batches, read_rows, write_parquet, write_parquet_groups
from .joining import Gathering, Places, groups
from .records import Request, Response

__all__ = [
    "RESPONSE_COLUMNS",
    "RESPONSE_SCHEMA",
    "Key",
    "Parts",
    "file_sha256",
    "joined_sha256",
    "plan_sha256",
    "write_gathered",
]

Key = tuple[str, int]
RESPONSE_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("n_prompt_tokens", pa.int32()),
        pa.field("n_tokens", pa.int32()),
        pa.field("n_thinking_tokens", pa.int32(), nullable=False),
        pa.field("form", pa.string(), nullable=False),
    ]
)
RESPONSE_COLUMNS: tuple[str, ...] = tuple(RESPONSE_SCHEMA.names)


def plan_sha256(plan: Sequence[Sequence[Request]]) -> str:
    """SHA-256 over prompt ids and samples of every batch, in order."""
    content = [[[request.prompt.id, list(request.samples)] for request in batch] for batch in plan]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def joined_sha256(hashes: Iterable[str]) -> str:
    """One hash of several, in order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class Parts:
    """The answered batches of a run, one Parquet file each, until they are joined into one table.

    A part counts only if it is whole and holds exactly the responses of its batch; any other file is as good as
    missing, and its batch is asked again.

    Args:
        folder: ``responses`` of the run folder.
        plan: the batches.
    """

    def __init__(self, folder: Path, plan: Sequence[Sequence[Request]]) -> None:
        self.folder = folder
        self.table = folder / "responses.parquet"
        self._keys = [
            [(request.prompt.id, sample) for request in batch for sample in request.samples] for batch in plan
        ]
        self._plan_sha256 = plan_sha256(plan)

    def keys(self, batch: int) -> list[Key]:
        """The (prompt id, sample) of each response of a batch, in plan order."""
        return self._keys[batch]

    def path(self, batch: int) -> Path:
        """Where a batch is saved."""
        return self.folder / f"part-{batch:06d}.parquet"

    def read(self, batch: int) -> tuple[list[Response], dict[str, Any]] | None:
        """The responses of a batch in plan order and what was noted with them; None where no whole part is there."""
        try:
            table = read_rows(self.path(batch), RESPONSE_SCHEMA)
            notes = (table.schema.metadata or {}).get(b"demur")
            details = json.loads(notes) if notes else {}
            if details.pop("plan_sha256", None) != self._plan_sha256:
                return None
            rows = _responses(table)
        except (DemurError, ValueError, TypeError, pa.ArrowException):
            return None
        return (rows, details) if [(row.prompt_id, row.sample) for row in rows] == self._keys[batch] else None

    def write(self, batch: int, responses: Iterable[Response], details: dict[str, object]) -> None:
        """Save a batch, atomically.

        Raises:
            ValueError: the responses are not exactly those of the batch.
            DemurError: the file cannot be written.
        """
        by_key = {(response.prompt_id, response.sample): response for response in responses}
        if set(by_key) != set(self._keys[batch]):
            raise ValueError(f"batch {batch}: the responses are not those of the batch")
        notes = json.dumps({"plan_sha256": self._plan_sha256, **details}, allow_nan=False)
        write_parquet(self.path(batch), _table([by_key[key] for key in self._keys[batch]]), {"demur": notes})

    def unfold(self) -> None:
        """Cut a finished table back into parts, so that its errors can be retried; parts that are there stay."""
        if not self.table.is_file():
            return
        with suppress(DemurError, ValueError, TypeError, pa.ArrowException):
            self._cut()
        self.table.unlink()

    def _cut(self) -> None:
        keys = pa.schema([RESPONSE_SCHEMA.field(name) for name in ("prompt_id", "sample")])
        rows: dict[Key, int] = {}
        count = 0
        for table in parquet_batches(self.table, keys):
            found = zip(*(column.to_pylist() for column in table.columns), strict=True)
            rows.update((key, number) for number, key in enumerate(found, start=count))
            count += len(table)
        wanted = [batch for batch, keys in enumerate(self._keys) if self.read(batch) is None and _all_in(keys, rows)]
        places = np.full(count, -1, dtype=np.int64)
        ends = np.cumsum([len(self._keys[batch]) for batch in wanted])
        for place, key in enumerate(key for batch in wanted for key in self._keys[batch]):
            places[rows[key]] = place
        source = Gathering([self.table], [places], RESPONSE_SCHEMA)
        notes = {"demur": json.dumps({"plan_sha256": self._plan_sha256})}
        for start, stop in groups(source.sizes(), list(ends)):
            table = source.table(start, stop).replace_schema_metadata()
            for batch, end in zip(wanted, ends, strict=True):
                if start < end <= stop:
                    size = len(self._keys[batch])
                    write_parquet(self.path(batch), table.slice(end - size - start, size).combine_chunks(), notes)

    def join(self, order: Sequence[Key]) -> str:
        """Write the finished table, remove the parts, and give the SHA-256 of the table's bytes.

        The bytes depend on the responses and their order alone, not on batches, retries or times.
        """
        place = {key: number for number, key in enumerate(order)}
        places = [np.array([place[key] for key in keys], dtype=np.int64) for keys in self._keys]
        write_gathered(self.table, [self.path(batch) for batch in range(len(self._keys))], places)
        # Temporary files are those of writes that a kill cut off.
        for leftover in (*self.folder.glob("part-*.parquet"), *self.folder.glob(".*.tmp")):
            leftover.unlink()
        return file_sha256(self.table)


def write_gathered(path: Path, sources: Sequence[Path], places: Sequence[Places]) -> None:
    """Write one table of responses that lie in several files; memory does not grow with their texts.

    Args:
        path: the table.
        sources: Parquet files of responses.
        places: of each file, the number in the table of each of its rows.
    """
    source = Gathering(sources, places, RESPONSE_SCHEMA)
    tables = (source.table(start, stop).replace_schema_metadata() for start, stop in groups(source.sizes()))
    write_parquet_groups(path, RESPONSE_SCHEMA, tables)


def _all_in(keys: Sequence[Key], rows: Mapping[Key, int]) -> bool:
    return all(key in rows for key in keys)


def _table(responses: Iterable[Response]) -> pa.Table:
    return pa.Table.from_pylist([asdict(response) for response in responses], schema=RESPONSE_SCHEMA)


def _responses(table: pa.Table) -> list[Response]:
    return [Response(**row) for row in table.to_pylist()]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
