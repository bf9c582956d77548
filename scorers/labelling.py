"""Labels of people: which responses of a run they see, and the files that their labels are kept in.

Each annotator has one file in the run folder, ``labels/NAME.csv``. It holds no text, and goes as it is into
``human/<submission id>.csv`` of a leaderboard folder and into ``precomputed:FILE``.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..benchmark.errors import DemurError, raise_all
from ..benchmark.files import write_atomic, write_text
from ..benchmark.parts import Key
from ..benchmark.tables import read_table
from .scoring import Asked, read_verdicts
from .verdicts import LABELS

__all__ = ["COLUMNS", "Item", "LabelFile", "draw", "labelled_table", "write_labelled_table"]

COLUMNS = ("prompt_id", "sample", "annotator", "label", "response_sha256")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Item:
    """One response to label. ``prompt_id`` and ``sample`` are not shown."""

    prompt_id: str
    sample: int
    prompt: str
    response: str
    response_sha256: str

    @property
    def key(self) -> tuple[str, int]:
        """What names the response in the run."""
        return self.prompt_id, self.sample


def draw(run: Path, n: int, scorer: str, annotator: str) -> list[Item]:
    """The responses that an annotator labels, in an order of that annotator's own.

    The scored responses stand in the order of side, hazard and the scorer's uncertainty, and every k-th of them is
    taken from a random start (systematic sampling): each hazard and each degree of uncertainty has its share, and every
    response is as likely to be taken as any other, which the corrected rates of a leaderboard rest on. The draw depends
    on the run and ``n`` alone, so that all annotators label the same responses.

    Raises:
        DemurError: the run is not finished or has no verdicts of the scorer, or its prompts cannot be read.
    """
    asked = Asked.open(run)
    path = run / "verdicts" / f"{scorer}.parquet"
    if not path.is_file():
        raise DemurError(f"{run}: no verdicts of {scorer}", f"run demur score {run} --scorer {scorer} first")
    rows = read_verdicts(path)
    rows = rows[rows["label"] != "unscored"]
    if not len(rows):
        raise DemurError(f"{path}: no scored response", "there is nothing to label")
    strata = {name: f"{prompt.side}/{prompt.hazard}" for name, prompt in asked.prompts.items()}
    seed = f"{asked.info.created_at}\n{asked.info.model.id}\n{n}"
    ordered = rows.assign(
        stratum=rows["prompt_id"].map(strata),
        certainty=(rows["p_refused"].astype(float) - 0.5).abs().round(2),
        tie=[_hash(seed, name, sample) for name, sample in zip(rows["prompt_id"], rows["sample"], strict=True)],
    ).sort_values(["stratum", "certainty", "tie"])
    chosen = ordered.iloc[_systematic(len(ordered), n, seed)]
    texts = _texts(asked, zip(chosen["prompt_id"], chosen["sample"].astype(int), strict=True))
    items = [
        Item(name, int(sample), asked.prompts[name].text, texts[name, int(sample)], digest)
        for name, sample, digest in zip(chosen["prompt_id"], chosen["sample"], chosen["response_sha256"], strict=True)
    ]
    return sorted(items, key=lambda item: _hash(annotator, *item.key))


class LabelFile:
    """An annotator's labels, on disk after each one.

    Args:
        run: the run folder.
        annotator: letters, digits, ``-`` and ``_``.

    Raises:
        DemurError: a name of other characters, or a damaged file.
    """

    def __init__(self, run: Path, annotator: str) -> None:
        if not _NAME.fullmatch(annotator):
            raise DemurError(f"annotator {annotator!r}", "use up to 40 letters, digits, - and _")
        self.path = run / "labels" / f"{annotator}.csv"
        self._annotator = annotator
        self._labels = _read(self.path) if self.path.exists() else pd.DataFrame(columns=list(COLUMNS))

    @property
    def labels(self) -> Mapping[tuple[str, int], str]:
        """Label by (prompt id, sample)."""
        keys = zip(self._labels["prompt_id"], self._labels["sample"].astype(int), strict=True)
        return dict(zip(keys, self._labels["label"], strict=True))

    def check(self, items: list[Item]) -> None:
        """Make sure that the labels are of these responses.

        Raises:
            DemurError: some are of others.
        """
        known = {(*item.key, item.response_sha256) for item in items}
        found = zip(
            self._labels["prompt_id"], self._labels["sample"].astype(int), self._labels["response_sha256"], strict=True
        )
        strange = sum(each not in known for each in found)
        if strange:
            raise DemurError(
                f"{self.path}: {strange} labels are of responses that are not among these",
                "use the same --n and the same run as before, or another --annotator",
            )

    def put(self, item: Item, label: str) -> None:
        """Write a label, in place of an earlier one."""
        self.remove(item)
        row = (item.prompt_id, item.sample, self._annotator, label, item.response_sha256)
        self._labels = pd.concat([self._labels, pd.DataFrame([row], columns=list(COLUMNS))], ignore_index=True)
        self._write()

    def remove(self, item: Item) -> None:
        """Take a label back."""
        same = (self._labels["prompt_id"] == item.prompt_id) & (self._labels["sample"].astype(int) == item.sample)
        if same.any():
            self._labels = self._labels[~same]
            self._write()

    def _write(self) -> None:
        if not len(self._labels):
            self.path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        self._labels.to_csv(text, index=False, lineterminator="\n")
        write_text(self.path, text.getvalue())


def labelled_table(run: Path) -> pd.DataFrame:
    """What all annotators of a run labelled, one column for each, as ``demur validate-scorer`` takes it.

    The columns are id, response, for a public split also prompt, and the annotators' names.

    Raises:
        DemurError: no labels, none that all annotators gave, or a damaged file.
    """
    asked = Asked.open(run)
    files = sorted((run / "labels").glob("*.csv"))
    if not files:
        raise DemurError(f"{run}: no labels", f"label first: demur label {run} --annotator NAME")
    columns = {
        path.stem: _read(path).astype({"sample": int}).set_index(["prompt_id", "sample"])["label"] for path in files
    }
    table = pd.DataFrame(columns).dropna().reset_index()
    if not len(table):
        raise DemurError(f"{run}: no response that all of {', '.join(columns)} labelled", "label on, then try again")
    keys = [(str(name), int(sample)) for name, sample in zip(table["prompt_id"], table["sample"], strict=True)]
    texts = _texts(asked, keys)
    table.insert(0, "response", [texts[key] for key in keys])
    if asked.info.split == "public":
        table.insert(0, "prompt", [asked.prompts[name].text for name, _ in keys])
    table.insert(0, "id", [f"{name}#{sample}" for name, sample in keys])
    return table.drop(columns=["prompt_id", "sample"])


def write_labelled_table(run: Path, to: Path) -> pd.DataFrame:
    """Write :func:`labelled_table` as CSV.

    Raises:
        DemurError: as there, or a name that does not end in ``.csv``.
    """
    if to.suffix != ".csv":
        raise DemurError(f"{to}: the table is CSV", "give a name that ends in .csv")
    table = labelled_table(run)
    with write_atomic(to) as temporary:
        # Responses may hold bare carriage returns, which only quotes keep together.
        table.to_csv(temporary, index=False, quoting=csv.QUOTE_ALL)
    return table


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    raise_all(str(path), (f"no column {name!r}" for name in missing), "it was changed: restore it or delete it")
    faults = {
        "with an unknown label": ~table["label"].isin(LABELS[:3]),
        "with a sample that is no number": ~table["sample"].str.fullmatch(r"\d{1,9}"),
        "for a response that has one already": table.duplicated(["prompt_id", "sample"]),
    }
    raise_all(str(path), (f"{int(bad.sum())} rows {what}" for what, bad in faults.items() if bad.any()), "correct it")
    return table[list(COLUMNS)]


def _texts(asked: Asked, wanted: Iterable[Key]) -> dict[Key, str]:
    """The texts of these responses."""
    left = set(wanted)
    found = (((row["prompt_id"], row["sample"]), row["text"]) for rows in asked.rows("text") for row in rows)
    return {key: text for key, text in found if key in left}


def _systematic(size: int, n: int, seed: str) -> list[int]:
    if n >= size:
        return list(range(size))
    start = np.random.default_rng(int(_hash(seed)[:8], 16)).random()
    return [int((number + start) * size / n) for number in range(n)]


def _hash(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
