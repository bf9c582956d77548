"""Spoiling files: valid bytes in, hostile bytes out, by bytes, by JSON value, by line and by Parquet column."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 10**30, 1e308, -0.0, "", " ", "\x00", "\x1b[31m", "=1+1", "../../x", "\ud800", "\u202e",
    "a\nb", "\r\n", "x" * 70_000, [], {}, [[]], [None], {"": ""}, {"__class__": 1}, "NaN", "2025-13-45T99:99:99Z", "/",
)  # fmt: skip
TAILS = (
    b"", b"\x00", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"\n", b"\r\n", b"NaN", b"Infinity",
    b'"', b"'''", b",,,,", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"PAR1", b"PK\x03\x04", b"&a [*a]\n",
    b"!!python/object:os.x {}\n",
    "\u2028".encode(), "\u0085".encode(), b'{"event": "finished"}\n', b"[]\n", b"1\n", b"null\n",
)  # fmt: skip


@st.composite
def spoiled_bytes(draw: st.DrawFn, seed: bytes) -> bytes:
    """Bits flipped, cut short, doubled, or hostile bytes put in."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(("flip", "cut", "insert", "replace", "drop", "only")))
        if how == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del content[at:]
        elif how == "insert":
            content[at:at] = draw(st.sampled_from(TAILS) | st.binary(max_size=20))
        elif how == "replace":
            content[at : at + draw(st.integers(1, 40))] = draw(st.binary(max_size=40))
        elif how == "drop":
            del content[at : at + draw(st.integers(1, 2000))]
        else:
            content = bytearray(draw(st.sampled_from(TAILS) | st.binary(max_size=200)))
    return bytes(content)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:12]:
        found += _paths(inner, (*at, key))
    return found


@st.composite
def spoiled_json(draw: st.DrawFn, seed: bytes) -> bytes:
    """One value of a JSON document taken out, renamed or replaced."""
    value = json.loads(seed)
    path = draw(st.sampled_from(_paths(value)))
    new = draw(st.sampled_from(VALUES))
    if not path:
        return json.dumps(new).encode()
    place = value
    for step in path[:-1]:
        place = place[step]
    how = draw(st.sampled_from(("set", "drop", "add")))
    if how == "drop":
        del place[path[-1]]
    elif how == "add" and isinstance(place, dict):
        place[draw(st.sampled_from(("", "x", "\x1b", "__proto__")))] = new
    else:
        place[path[-1]] = new
    return json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def spoiled_lines(draw: st.DrawFn, seed: bytes) -> bytes:
    """A line left out, doubled, moved, or one of its JSON values or fields replaced."""
    lines = seed.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(("drop", "double", "move", "json", "field", "crlf")))
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines.insert(at, lines[at])
    elif how == "move":
        lines.append(lines.pop(at))
    elif how == "crlf":
        lines = [line.replace(b"\n", b"\r\n") for line in lines]
    elif how == "json" and lines[at].lstrip().startswith(b"{"):
        lines[at] = draw(spoiled_json(lines[at])) + b"\n"
    else:
        fields = lines[at].rstrip(b"\n").split(b",")
        text = str(draw(st.sampled_from(VALUES)))
        fields[draw(st.integers(0, len(fields) - 1))] = text.encode("utf-8", "surrogatepass")
        lines[at] = b",".join(fields) + b"\n"
    return b"".join(lines)


@st.composite
def spoiled_parquet(draw: st.DrawFn, seed: bytes) -> bytes:
    """A column of another type, with nulls, renamed, doubled or left out; rows doubled, turned round or gone."""
    table = pq.read_table(io.BytesIO(seed))
    name = draw(st.sampled_from(table.column_names))
    at, rows = table.column_names.index(name), len(table)
    columns: dict[str, Any] = {
        "null": pa.nulls(rows, table.schema.field(at).type),
        "nulls": pa.nulls(rows),
        "text": pa.array([str(draw(st.sampled_from(VALUES))).encode("utf-8", "replace").decode()] * rows),
        "number": pa.array([draw(st.sampled_from((-1, 0, 2**40)))] * rows),
        "real": pa.array([draw(st.sampled_from((float("nan"), float("inf"), -1.0, 2.0)))] * rows),
        "bytes": pa.array([b"\xff\xfe"] * rows),
        "list": pa.array([[1, 2]] * rows),
        "struct": pa.array([{"a": 1}] * rows),
        "dictionary": pa.array(["x"] * rows).dictionary_encode(),
        "time": pa.array([0] * rows, pa.timestamp("us", "UTC")),
        "bool": pa.array([True] * rows),
    }
    how = draw(st.sampled_from((*columns, "drop", "rename", "double", "rows", "turn", "empty")))
    if how in columns:
        table = table.set_column(at, name, columns[how])
    elif how == "drop":
        table = table.drop_columns([name])
    elif how == "rename":
        table = table.rename_columns([f"{each}\x1b" if each == name else each for each in table.column_names])
    elif how == "double":
        table = table.append_column(name, table.column(at))
    elif how == "rows":
        table = pa.concat_tables([table, table.slice(0, 1)])
    elif how == "turn":
        table = table.take(np.arange(rows)[::-1].copy())
    else:
        table = table.slice(0, 0)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def spoiled(seed: bytes, kind: str) -> st.SearchStrategy[bytes]:
    """Every way that fits a kind of file: ``json``, ``lines``, ``parquet`` or ``bytes``."""
    ways = {"json": spoiled_json, "lines": spoiled_lines, "parquet": spoiled_parquet}
    return spoiled_bytes(seed) | ways[kind](seed) if kind in ways else spoiled_bytes(seed)
