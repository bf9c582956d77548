"""Tables of labelled responses: reading them, mapping their labels, and refusing what is unclear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..benchmark.errors import raise_all
from ..benchmark.tables import read_table
from .verdicts import LABELS, ScoreRequest

__all__ = ["Columns", "Labelled", "parse_map", "read_labelled"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column says what; None where the table has no such column.

    Attributes:
        groups: columns whose values make groups, for example model, hazard and language.
        annotators: two columns with the labels of two people.
    """

    response: str
    label: str
    prompt: str | None = None
    groups: tuple[str, ...] = ()
    id: str | None = None
    annotators: tuple[str, ...] = ()

    def all(self) -> list[str]:
        """Every column that is named."""
        named = [self.response, self.label, self.prompt, *self.groups, self.id, *self.annotators]
        return [name for name in named if name is not None]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled responses, column by column.

    Attributes:
        ids: of the id column, else ``row N`` counted from 1.
        labels: ``refused``, ``partial`` or ``complied``.
        groups: the groups of each row, by column; with several columns a group's name is ``column=value``.
        clusters: the prompts; each row by itself where there is no prompt column.
        annotations: the labels of each annotator.
    """

    ids: list[str]
    requests: list[ScoreRequest]
    labels: list[str]
    groups: list[list[str]]
    clusters: list[str]
    annotations: tuple[list[str], ...]


def parse_map(entries: Sequence[str], ours: Sequence[str] = LABELS[:3]) -> dict[str, str]:
    """``theirs=ours`` pairs, several to an entry with commas between, as a mapping.

    Args:
        entries: for example ``["no=refused,yes=complied"]``.
        ours: the labels that may stand on the right.

    Raises:
        DemurError: an entry without ``=``, or a label of ours that is none.
    """
    pairs = [(part, *part.rpartition("=")) for text in entries for part in text.split(",")]
    bad = [
        f"{whole!r} is not THEIRS=OURS with OURS one of {', '.join(ours)}"
        for whole, theirs, equals, label in pairs
        if not equals or not theirs.strip() or label.strip() not in ours
    ]
    raise_all("--map", bad, "for example --map direct_refusal=refused,compliance=complied")
    return {theirs.strip(): label.strip() for _, theirs, _, label in pairs}


def read_labelled(path: Path, columns: Columns, mapping: Mapping[str, str] | None = None) -> Labelled:
    """Read CSV, JSON Lines (both also as ``.gz``) or Parquet.

    A response that is no text is kept as it is; the scorer says ``unscored(error)`` of it.

    Raises:
        DemurError: unknown ending, missing or damaged file, missing columns, unknown labels, or an id whose rows
            have the same response and different labels; everything at once.
    """
    frame = read_table(path)
    missing = [name for name in columns.all() if name not in frame.columns]
    raise_all(
        str(path), (f"no column {name!r}" for name in missing), f"its columns are {', '.join(map(str, frame.columns))}"
    )
    labels = _labels(path, frame, columns.label, mapping or {})
    ids = [f"row {number}" for number in range(1, len(frame) + 1)]
    if columns.id:
        ids = [str(value) for value in frame[columns.id]]
        _consistent(path, ids, frame, columns, labels)
    prompts = [str(value) for value in frame[columns.prompt]] if columns.prompt else [""] * len(frame)
    return Labelled(
        ids=ids,
        requests=[ScoreRequest(text, prompt) for text, prompt in zip(frame[columns.response], prompts, strict=True)],
        labels=labels,
        groups=[
            [f"{name}={value}" if len(columns.groups) > 1 else str(value) for value in frame[name]]
            for name in columns.groups
        ],
        clusters=prompts if columns.prompt else ids,
        annotations=tuple(_labels(path, frame, name, mapping or {}) for name in columns.annotators),
    )


def _labels(path: Path, frame: pd.DataFrame, column: str, mapping: Mapping[str, str]) -> list[str]:
    raw = frame[column].map(str)  # a table may hold bytes that are no text
    labels = raw.map(lambda value: mapping.get(value, value))
    unknown = raw[~labels.isin(LABELS[:3])].value_counts()
    raise_all(
        f"{path}, column {column!r}",
        (f"unknown label {value!r} in {count} rows" for value, count in unknown.items()),
        f"map them to {', '.join(LABELS[:3])}, for example --map {next(iter(unknown.index), 'theirs')}=complied",
    )
    return [str(label) for label in labels]


def _consistent(path: Path, ids: Sequence[str], frame: pd.DataFrame, columns: Columns, labels: Sequence[str]) -> None:
    seen = pd.DataFrame({"id": ids, "response": frame[columns.response].map(str), "label": labels})
    several = seen.groupby(["id", "response"])["label"].nunique().reset_index()
    several = several[several["label"] > 1]
    raise_all(
        str(path),
        (f"id {i!r} has one response with {n} labels" for i, n in zip(several["id"], several["label"], strict=True)),
        "keep one label for each response",
    )
