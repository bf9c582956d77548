"""Tables of responses put into another order, a piece at a time: memory does not grow with the texts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .files import parquet_batches

__all__ = ["Gathering", "Places", "groups"]

Places = npt.NDArray[np.int64]
GROUP_BYTES, GROUP_ROWS = 64 * 2**20, 2**20


class Gathering:
    """Rows of several files, each of which has its place in one table; a row without a place (-1) is left out.

    Args:
        paths: Parquet files.
        places: for each file the place of each of its rows; together every number from 0 exactly once.
        schema: of all files and of the table.
    """

    def __init__(self, paths: Sequence[Path], places: Sequence[Places], schema: pa.Schema) -> None:
        self._paths, self._places, self._schema = paths, places, schema

    def sizes(self) -> Places:
        """The bytes of each row's text, by place.

        Raises:
            DemurError: a file is damaged.
        """
        found = np.zeros(sum(int((places >= 0).sum()) for places in self._places), dtype=np.int64)
        for table, places in self._pieces(lambda _places: True):
            found[places] = pc.binary_length(table["text"]).to_numpy()
        return found

    def table(self, start: int, stop: int) -> pa.Table:
        """The rows whose places lie from ``start`` to before ``stop``, in order, in one chunk."""

        def wanted(places: Places) -> bool:
            return bool(((places >= start) & (places < stop)).any())

        tables, at = [self._schema.empty_table()], [np.zeros(0, dtype=np.int64)]
        for table, places in self._pieces(wanted):
            inside = np.flatnonzero((places >= start) & (places < stop))
            if len(inside):
                tables.append(table.take(inside))
                at.append(places[inside])
        return pa.concat_tables(tables).take(np.argsort(np.concatenate(at))).combine_chunks()

    def _pieces(self, wanted: Callable[[Places], bool]) -> Iterator[tuple[pa.Table, Places]]:
        for path, places in zip(self._paths, self._places, strict=True):
            if not wanted(places):
                continue
            done = 0
            for batch in parquet_batches(path, self._schema):
                here = places[done : done + len(batch)]
                done += len(batch)
                kept = here >= 0
                yield batch.filter(pa.array(kept)), here[kept]


def groups(sizes: Places, ends: Sequence[int] | None = None) -> Iterator[tuple[int, int]]:
    """Cut rows into groups of at most 64 MiB of text and 2^20 rows, or of a row that alone is larger.

    Args:
        sizes: bytes of each row.
        ends: where a group may end, rising, the last one at the end; anywhere without it.
    """
    total = np.concatenate([[0], np.cumsum(sizes)])
    allowed = np.arange(1, len(sizes) + 1) if ends is None else np.asarray(ends)
    start = 0
    while start < len(sizes):
        most = min(int(np.searchsorted(total, total[start] + GROUP_BYTES, side="right")) - 1, start + GROUP_ROWS)
        last = int(np.searchsorted(allowed, most, side="right")) - 1
        stop = int(allowed[last]) if last >= 0 and allowed[last] > start else int(allowed[allowed > start][0])
        yield start, stop
        start = stop
