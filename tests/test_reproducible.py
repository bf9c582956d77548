"""The same inputs give the same bytes whatever the folder, locale, time zone, hash seed, threads and umask are."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMA = "de_DE.UTF-8"
LAYOUT = Path(__file__).with_name("layout.py")
CREATED, SALTED = "when the run was created", "the salt that is drawn for a submission, and what follows from it"
BUILT = "when the board was built"
MAY_DIFFER = {
    "run.json": {"created_at": CREATED},
    "submission.json": {
        "created_at": CREATED,
        "salt_sha256": SALTED,
        "rows_sha256": SALTED,
        "id": SALTED,
    },
    "verdicts.parquet": {"response_sha256": SALTED},
    "board.json": {"made_at": BUILT, "rows[].created_at": CREATED, "rows[].id": SALTED, "tie_groups[][]": SALTED},
}
"""Every fact of two runs of the same inputs that is not the same; docs/reliability.md lists them too."""


@dataclass(frozen=True)
class Layout:
    """How a machine is set up."""

    folder: str
    environment: Mapping[str, str]
    umask: int = 0o022
    options: tuple[str, ...] = ()


LAYOUTS = [
    Layout("plain", {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}),
    Layout(
        "with spaces/Ünï 日本",
        {"LANG": "C", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"},
        0o077,
        ("--reversed",),
    ),
    Layout(
        "comma/deeper/folder",
        {"LC_ALL": COMMA, "TZ": "America/St_Johns", "PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "2"},
        0o002,
    ),
]


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A folder with a locale that writes decimals with a comma; None where the system has it, or none can be made."""
    have = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.lower()
    if "de_de.utf8" in have:
        return None
    folder = tmp_path_factory.mktemp("locales")
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / COMMA)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("no locale with a decimal comma is here, and none can be made (apt-get install locales)")
    return folder


def work(layout: Layout, place: Path, locales: Path | None, *options: str) -> Path:
    """Everything that the whole way writes in a layout."""
    folder = place / layout.folder
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "OMP_"))}
    paths = {} if locales is None else {"LOCPATH": str(locales)}
    done = subprocess.run(
        [sys.executable, str(LAYOUT), str(folder), *layout.options, *options],
        env={**kept, **paths, **layout.environment},
        umask=layout.umask,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ("," if layout.environment["LC_ALL"] == COMMA else ".")
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """The files by name. ``answers.jsonl`` is the input; the journal holds the order of events and their durations."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"answers.jsonl", "journal.jsonl"}
    }


def alike(name: str, one: bytes, other: bytes) -> bool:
    """Whether two files are the same; of a chart as PDF, but for the order of its objects where it has two fonts."""
    return one == other or (name.endswith(".pdf") and len(one) == len(other) and drawn(one) == drawn(other))


def drawn(content: bytes) -> list[bytes]:
    """What a PDF draws: its unpacked streams (page, colours, fonts)."""
    streams = [found.group(1) for found in re.finditer(rb"stream\n(.*?)\nendstream", content, re.DOTALL)]
    assert len(streams) >= 2
    return sorted(zlib.decompress(each) if each.startswith(b"x") else each for each in streams)


@pytest.mark.slow
def test_bytes_are_the_same_on_every_layout(tmp_path: Path, locales: Path | None) -> None:
    first, *others = (written(work(layout, tmp_path, locales, "--fixed")) for layout in LAYOUTS)
    assert {"site/index.html", "board.json", "board.csv", "board.latex"} <= first.keys()
    assert {name.rsplit("/", 1)[-1] for name in first} >= MAY_DIFFER.keys()
    for other in others:
        assert other.keys() == first.keys()
        assert [name for name, content in first.items() if not alike(name, content, other[name])] == []
    for content in (content for each in (first, *others) for content in each.values()):
        assert str(tmp_path).encode() not in content


def different(a: Any, b: Any, at: str = "") -> set[str]:
    """Where two JSON values differ; places in lists are left out of the name."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return set().union(*(different(a[key], b[key], f"{at}.{key}".lstrip(".")) for key in a))
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return set().union(*(different(one, other, f"{at}[]") for one, other in zip(a, b, strict=True)))
    return set() if a == b and type(a) is type(b) else {at}


def without_facts(content: bytes) -> bytes:
    """A table or page without times and salted numbers."""
    return re.sub(rb"\d{4}-\d\d-\d\d(T[0-9:.]+\+00:00)?|(?<=-public-)[0-9a-f]{10}", b"", content)


def named(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, with a submission's salted number left out of their names."""
    return {re.sub(r"(-public)-[0-9a-f]{10}", r"\1", name): content for name, content in files.items()}


@pytest.mark.slow
def test_what_differs_between_two_runs_is_listed(tmp_path: Path, locales: Path | None) -> None:
    one, other = (named(written(work(layout, tmp_path, locales))) for layout in LAYOUTS[::2])
    assert one.keys() == other.keys()
    seen: dict[str, set[str]] = {}
    for path, content in one.items():
        name = path.rsplit("/", 1)[-1]
        if name not in MAY_DIFFER:
            continue
        if name.endswith(".parquet"):
            a, b = (pq.read_table(pa.BufferReader(each[path])) for each in (one, other))
            assert a.column_names == b.column_names
            found = {column for column in a.column_names if not a[column].equals(b[column])}
        else:
            found = different(json.loads(content), json.loads(other[path]))
        seen[name] = seen.get(name, set()) | found
        assert content == other[path] or found, f"{path}: other bytes for the same values"
    assert seen == {name: set(facts) for name, facts in MAY_DIFFER.items()}
    for path in ("board.csv", "board.latex", "site/index.html"):
        assert without_facts(one[path]) == without_facts(other[path]), path
    # Times are UTC wherever they were taken.
    times = re.findall(rb'"(?:created_at|made_at)": ?"([^"]+)"', b"".join(one.values()) + b"".join(other.values()))
    assert times
    assert all(time.endswith(b"+00:00") for time in times)


def test_the_facts_that_may_differ_are_documented() -> None:
    told = (LAYOUT.parent.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    for file, facts in MAY_DIFFER.items():
        for fact, why in facts.items():
            assert f"| `{file}` | `{fact}` | {why} |" in told
