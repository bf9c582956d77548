"""Tables of responses put together from parts: the same bytes whatever the parts were."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.benchmark import joining
from demur.benchmark.errors import DemurError
from demur.benchmark.joining import groups
from demur.benchmark.parts import RESPONSE_SCHEMA, write_gathered


def responses(texts: list[str]) -> pa.Table:
    count = len(texts)
    columns = [
        [f"p{number}" for number in range(count)],
        [0] * count,
        texts,
        ["stop"] * count,
        [""] * count,
        [None] * count,
        [7] * count,
        [0] * count,
        [""] * count,
    ]
    return pa.table(dict(zip(RESPONSE_SCHEMA.names, columns, strict=True)), schema=RESPONSE_SCHEMA)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=40),
    owner=st.lists(st.integers(0, 4), min_size=40, max_size=40),
    limit=st.sampled_from([1, 40, 2**20]),
    seed=st.integers(0, 9),
)
def test_rows_come_in_order_whatever_file_they_lie_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], owner: list[int], limit: int, seed: int
) -> None:
    place = tmp_path_factory.mktemp("joined")
    whole = responses(texts)
    order = np.random.default_rng(seed).permutation(len(texts))
    places = [np.array([at for at in order if owner[at] == file], dtype=np.int64) for file in range(5)]
    paths = [place / f"{file}.parquet" for file in range(5)]
    for path, at in zip(paths, places, strict=True):
        pq.write_table(whole.take(at), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "GROUP_BYTES", limit)
        write_gathered(place / "table.parquet", paths, places)
    assert pq.read_table(place / "table.parquet").equals(whole)
    if limit == 2**20:
        pq.write_table(whole, place / "plain.parquet", compression="zstd", write_page_checksum=True)
        assert (place / "table.parquet").read_bytes() == (place / "plain.parquet").read_bytes()


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    cuts=st.sets(st.integers(1, 59)),
    limit=st.integers(1, 120),
    rows=st.integers(1, 20),
)
def test_groups_hold_every_row_once_and_no_more_than_they_may(
    sizes: list[int], cuts: set[int], limit: int, rows: int
) -> None:
    ends = sorted({cut for cut in cuts if cut < len(sizes)} | {len(sizes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "GROUP_BYTES", limit)
        patch.setattr(joining, "GROUP_ROWS", rows)
        free, bound = (list(groups(np.array(sizes, dtype=np.int64), at)) for at in (None, ends))
    for found in (free, bound):
        assert [at for start, stop in found for at in range(start, stop)] == list(range(len(sizes)))
    assert all(stop in ends for _, stop in bound)
    assert all(stop - start == 1 or (sum(sizes[start:stop]) <= limit and stop - start <= rows) for start, stop in free)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    pq.write_table(responses(["a", "b"]), tmp_path / "one.parquet")
    content = (tmp_path / "one.parquet").read_bytes()
    (tmp_path / "one.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DemurError, match=r"one\.parquet: not a whole Parquet file"):
        write_gathered(tmp_path / "table.parquet", [tmp_path / "one.parquet"], [np.arange(2)])
    assert not (tmp_path / "table.parquet").exists()
