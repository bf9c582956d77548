"""A folder of submissions, as a board is built from it, and boards as files.

Beside the submissions' own folders there may be ``notices.json`` (tiers, rescoring and withdrawals: what the maintainer
says, never the submitter), ``rescored/<submission id>.parquet`` (the maintainer's verdicts on the submitter's
responses) and ``human/<submission id>.csv`` (human labels of a random part of its rows: prompt_id, sample, label).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..benchmark.errors import DemurError, raise_all
from ..benchmark.files import read_json
from ..benchmark.schema import check
from ..benchmark.tables import read_table
from .board import Board, ExternalTrack, Refused, Tier
from .loading import build
from .ranking import rank
from .submissions.checking import open_submission, read_submission
from .submissions.rescoring import RESCORED, read_notices, with_rescored
from .submissions.submitted import Submission

__all__ = ["Found", "board_of", "build_board", "read_as_shown", "read_board", "read_folder", "read_track"]

HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder of submissions holds.

    Attributes:
        submissions: the ones that passed every check, by id.
        refused: the others, with everything that is wrong with them.
        tiers: submission id to tier.
        withdrawn: submission id to reason.
        human: submission id to human labels.
    """

    submissions: list[Submission]
    refused: list[Refused]
    tiers: Mapping[str, Tier]
    withdrawn: Mapping[str, str]
    human: Mapping[str, pd.DataFrame]


def read_folder(path: Path | str) -> Found:
    """Read every submission under a folder; a broken one stops none of the others.

    Two submissions whose rows are the same, salted hashes included, are one copied from the other: the later of them
    is refused.

    Raises:
        DemurError: no such folder, or broken notices or human labels (the maintainer's own files).
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DemurError(f"{folder}: no such folder", "give the folder that holds the submissions")
    submissions: list[Submission] = []
    refused: list[Refused] = []
    for place in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name not in (HUMAN, RESCORED)):
        if place.name.startswith("."):
            continue
        submission, faults = open_submission(place)
        if submission is None or faults:
            refused.append(Refused(place.name, faults))
        else:
            submissions.append(submission)
    kept, copies = _without_copies(submissions)
    notices = read_notices(folder)
    human = {file.stem: _human(file) for file in sorted((folder / HUMAN).glob("*.csv"))}
    known = {one.info.id for one in submissions} | {one.name for one in refused}
    strange = sorted({*human, *(name for kind in notices.values() for name in kind)} - known)
    raise_all(str(folder), (f"a notice or human labels name {name!r}, which is not here" for name in strange))
    again = notices.get("rescored", {})
    tiers: dict[str, Tier] = notices.get("tiers", {})  # type: ignore[assignment]  # the schema holds the vocabulary
    unproven = sorted(name for name, tier in tiers.items() if tier == "rescored" and name not in again)
    raise_all(
        str(folder),
        (f"{name} has the tier rescored, but was not rescored here" for name in unproven),
        "judge its responses again: `demur verify SUBMISSION --responses …` writes the notice",
    )
    return Found(
        submissions=[with_rescored(folder, one, again[one.info.id]) if one.info.id in again else one for one in kept],
        refused=refused + copies,
        tiers=tiers,
        withdrawn=notices.get("withdrawn", {}),  # type: ignore[arg-type]  # the same
        human=human,
    )


def read_as_shown(place: Path | str) -> Submission:
    """One submission as a board shows it: with the maintainers' verdicts where it lies beside a notice of them.

    Raises:
        DemurError: it does not pass its check, or the notice or the rows are broken.
    """
    submission, folder = read_submission(place), Path(place).resolve().parent
    again = read_notices(folder).get("rescored", {})
    name = submission.info.id
    return with_rescored(folder, submission, again[name]) if name in again else submission


def _without_copies(submissions: Sequence[Submission]) -> tuple[list[Submission], list[Refused]]:
    kept: dict[str, Submission] = {}
    copies = []
    for one in sorted(submissions, key=lambda one: (one.info.created_at, one.info.id)):
        first = kept.setdefault(one.info.rows_sha256, one)
        if first is not one:
            why = f"its rows, salted hashes included, are those of {first.info.id}: one is a copy of the other"
            copies.append(Refused(one.info.id, [why]))
    return sorted(kept.values(), key=lambda one: one.info.id), copies


def _human(path: Path) -> pd.DataFrame:
    table = read_table(path)
    missing = [name for name in ("prompt_id", "sample", "label") if name not in table.columns]
    raise_all(str(path), (f"missing column {name!r}" for name in missing))
    numbers = pd.to_numeric(table["sample"], errors="coerce")
    raise_all(str(path), ["column sample holds something that is no number"] if numbers.isna().any() else [])
    return table[["prompt_id", "label"]].assign(sample=numbers.astype("int64"))


def build_board(
    path: Path | str, *, split: str | None = None, external: Sequence[ExternalTrack] = (), made_at: str | None = None
) -> Board:
    """Rank what a folder holds; what was refused stands on the board with the reasons."""
    found = read_folder(path)
    return rank(
        found.submissions,
        tiers=found.tiers,
        withdrawn=found.withdrawn,
        split=split,
        human=found.human,
        external=external,
        refused=found.refused,
        made_at=made_at,
    )


def board_of(path: Path | str) -> Board:
    """A board from its JSON, or built from a folder of submissions."""
    return read_board(path) if Path(path).is_file() else build_board(path)


def read_board(path: Path | str) -> Board:
    """Read a board's JSON.

    Raises:
        DemurError: missing, no JSON, or every breach of the schema.
    """
    value = read_json(Path(path))
    check(value, "demur.leaderboard", "board", str(path), "build it anew with `demur leaderboard build`")
    return build(Board, value)


def read_track(path: Path | str) -> ExternalTrack:
    """Read a track that ``demur consistency --out`` wrote.

    Raises:
        DemurError: missing, no JSON, or every breach of the schema.
    """
    value = read_json(Path(path))
    check(value, "demur.leaderboard", "track", str(path), "make it anew with `demur consistency --out`")
    return build(ExternalTrack, value)
