"""Tables of verdicts that others made: bringing their labels into the closed vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..benchmark.errors import DemurError, raise_all
from ..scorers.verdicts import LABELS

__all__ = ["Columns", "LabelTable", "label_table"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column says what. Without ``sample`` every row is a draw of its own; without ``group`` there is one."""

    model: str = "model"
    prompt: str = "prompt_id"
    label: str = "label"
    group: str | None = None
    sample: str | None = None


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Rows in the closed vocabulary.

    Attributes:
        rows: columns model, prompt, group, label (one of ``LABELS``), original (the label as it stood).
        notes: how missing and doubled rows were treated, one sentence each.
    """

    rows: pd.DataFrame
    notes: list[str]


def label_table(table: pd.DataFrame, columns: Columns, mapping: Mapping[str, str] | None = None) -> LabelTable:
    """Bring a table of verdicts into the closed vocabulary.

    Labels that the mapping does not name must be ours already. Where ``sample`` is given, a (model, prompt, sample)
    that is there more than once counts once, with its first label; what is missing stays missing, and the figures use
    the draws that are there.

    Raises:
        DemurError: missing columns, labels that nothing maps, empty models or prompts, or a prompt in two groups.
    """
    wanted = [columns.model, columns.prompt, columns.label, columns.group, columns.sample]
    missing = [name for name in wanted if name is not None and name not in table.columns]
    raise_all(
        "table",
        (f"no column {name!r}; there are {', '.join(map(str, table.columns))[:300]}" for name in missing),
        "name the columns with --model-col, --prompt-col, --label-col, --group-col and --sample-col",
    )
    original = _words(table[columns.label])
    known = {label: label for label in LABELS} | dict(mapping or {})
    counts = original[~original.isin(list(known))].value_counts()
    raise_all(
        f"column {columns.label!r}",
        (f"label {str(label)[:60]!r} ({count} rows) is none of {', '.join(LABELS)}" for label, count in counts.items()),
        "say what it means with --map THEIRS=OURS",
    )
    rows = pd.DataFrame(
        {
            "model": _words(table[columns.model]),
            "prompt": _words(table[columns.prompt]),
            "group": "all" if columns.group is None else _words(table[columns.group]),
            "label": original.map(known),
            "original": original,
        }
    )
    empty = {name: int((rows[name] == "").sum()) for name in ("model", "prompt")}
    raise_all("table", (f"{count} rows without a {name}" for name, count in empty.items() if count), "fill them in")
    groups = rows.groupby("prompt")["group"].nunique()
    raise_all(
        f"column {columns.group!r}",
        (f"prompt {str(prompt)[:60]!r} is in {count} groups" for prompt, count in groups[groups > 1].items()),
        "a prompt belongs to one group",
    )
    notes = []
    if columns.sample is not None:
        keys = pd.MultiIndex.from_arrays([rows["model"], rows["prompt"], _words(table[columns.sample])])
        doubled = keys.duplicated()
        if doubled.any():
            notes.append(f"{int(doubled.sum())} rows repeat a (model, prompt, sample) and were left out")
            rows = rows[~doubled]
    return LabelTable(rows, notes + _missing(rows))


def _words(column: pd.Series) -> pd.Series:
    """A column as text; what is missing is empty."""
    try:
        return column.astype(object).where(column.notna(), "").astype(str)
    except UnicodeDecodeError as fault:
        raise DemurError(f"column {column.name!r}: holds bytes that are no text", "write it as UTF-8 text") from fault


def _missing(rows: pd.DataFrame) -> list[str]:
    sizes = rows.groupby(["model", "prompt"]).size()
    prompts = rows["prompt"].nunique()
    most = int(sizes.max())
    fewer = int((sizes < most).sum())
    absent = rows["model"].nunique() * prompts - len(sizes)
    notes = []
    if fewer:
        lost = int((most - sizes).sum())
        notes.append(f"{lost} draws are missing in {fewer} of {len(sizes)} (model, prompt); the others have {most}")
    if absent:
        notes.append(f"{absent} (model, prompt) are missing altogether; each model's figures are over its own prompts")
    return notes
