"""What the scorers of a run said, held against its responses: the verdicts that a submission is made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...benchmark.errors import DemurError, raise_all
from ...benchmark.runs import FinishedRun, RunInfo
from ...scorers.scoring import read_verdicts
from .identity import ScorerId
from .responses import salted
from .submitted import ROW_COLUMNS

__all__ = ["Judged", "chosen_judge", "judged_by", "judges_of", "salted_hashes"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a scorer said of a run; ``rows`` in the order of its responses, with their unsalted hashes.

    ``faults`` is what is wrong with the rest of its file.
    """

    path: Path
    scorer: ScorerId
    rows: pd.DataFrame
    faults: list[str]


def judges_of(run: FinishedRun) -> list[str]:
    """The names of the scorers that judged the run."""
    return sorted(path.stem for path in (run.path / "verdicts").glob("*.parquet"))


def chosen_judge(run: FinishedRun, scorer: str | None) -> str:
    """The scorer whose verdicts are submitted: the one that is named, or the only one.

    Raises:
        DemurError: the run was not scored, not by this scorer, or by several and none is named.
    """
    there = judges_of(run)
    if not there:
        raise DemurError(f"{run.path}: not scored yet", f"run `demur score {run.path}` first")
    if scorer is None and len(there) > 1:
        raise DemurError(f"{run.path}: scored by {', '.join(there)}", "say which with --scorer")
    if scorer not in (None, *there):
        raise DemurError(f"{run.path}: no verdicts of scorer {scorer!r}", f"there are those of {', '.join(there)}")
    return scorer or there[0]


def judged_by(run: FinishedRun, name: str) -> Judged:
    """The verdicts of one scorer; that they are of these very texts is for :func:`salted_hashes` to see."""
    path = run.path / "verdicts" / f"{name}.parquet"
    found = read_verdicts(path, without=("evidence", "package_version"))
    scorer = ScorerId(*(str(found[f"scorer_{part}"].iloc[0]) for part in ("name", "version", "hash")))
    keys = list(zip(found["prompt_id"], found["sample"], strict=True))
    place = {key: number for number, key in enumerate(keys)}
    wanted = run.info.keys()
    missing, strange = sum(key not in place for key in wanted), len(place.keys() - set(wanted))
    raise_all(
        str(path),
        [f"{missing} responses without a verdict"] * bool(missing)
        + [f"{strange} verdicts without a response"] * bool(strange),
        f"run `demur score {run.path}` again",
    )
    rows = found[list(ROW_COLUMNS)]
    if keys != wanted:
        rows = rows.iloc[[place[key] for key in wanted]].reset_index(drop=True)
    return Judged(path, scorer, rows, _verdict_problems(run.info, found))


def _verdict_problems(info: RunInfo, found: pd.DataFrame) -> list[str]:
    faults = []
    for column, expected in (
        ("prompts_version", info.provenance.prompts_version),
        ("prompts_hash", info.provenance.prompts_hash),
    ):
        if (found[column] != expected).any():
            faults.append(f"column {column} is not {expected!r} everywhere, as the run says")
    for column in ("scorer_name", "scorer_version", "scorer_hash"):
        if found[column].nunique(dropna=False) != 1:
            faults.append(f"column {column} has {found[column].nunique(dropna=False)} values")
    return faults


def salted_hashes(run: FinishedRun, salt: str, judged: Sequence[Judged]) -> list[str]:
    """The salted hash of each response, after the proof that all verdicts are of these texts; read a few at a time."""
    stated = [one.rows["response_sha256"].tolist() for one in judged]
    other = [0] * len(judged)
    found: list[str] = []
    for rows in run.rows("text"):
        for row in rows:
            plain = hashlib.sha256(row["text"].encode()).hexdigest()
            for at, hashes in enumerate(stated):
                other[at] += hashes[len(found)] != plain
            found.append(salted(salt, row["text"]))
    for one, count in zip(judged, other, strict=True):
        faults = [f"{count} verdicts are of other responses than the run's"] * bool(count)
        raise_all(str(one.path), faults + one.faults, f"run `demur score {run.path}` again")
    return found
