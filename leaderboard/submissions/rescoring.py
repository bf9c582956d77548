"""The maintainers judge a submitter's responses again: their verdicts take the place of the submitter's on the board.

``rescored/<submission id>.parquet`` beside the submissions holds the new rows, and ``notices.json`` says by which
scorer and how well the two agree.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.errors import DemurError, raise_all
from ...benchmark.files import read_json, write_json
from ...benchmark.prompts import load_prompt_set
from ...benchmark.schema import check
from ...scorers.verdicts import Scorer, ScoreRequest
from ..loading import build
from ..statistics.draws import count_draws, verdict_table
from .identity import ScorerId
from .others import scorer_agreement
from .responses import OpenedResponse
from .rows_file import read_rows, write_rows
from .submitted import Rescored, Submission

__all__ = ["NOTICES", "RESCORED", "keep_rescored", "read_notices", "rescore", "with_rescored"]

NOTICES, RESCORED = "notices.json", "rescored"


def rescore(submission: Submission, responses: Sequence[OpenedResponse], scorer: Scorer) -> Submission:
    """The submission with the verdicts of ``scorer`` on the responses, which must be in the order of its rows.

    The hash proves a text; finish reason and error are as the submitter tells them, as in every submission.

    Raises:
        DemurError: the prompts that it asked are not at hand.
    """
    info = submission.info
    texts = {one.id: one.text for one in load_prompt_set(info.prompts.split, version=info.prompts.version).prompts}
    asked = [ScoreRequest(one.text, texts[one.prompt_id], one.finish_reason, one.error) for one in responses]
    verdicts = list(scorer.score(asked))
    rows = submission.verdicts.assign(
        label=[verdict.label for verdict in verdicts],
        reason=pd.Series([verdict.reason for verdict in verdicts], dtype=object),
        p_refused=[np.nan if verdict.p_refused is None else verdict.p_refused for verdict in verdicts],
    )
    by = ScorerId(scorer.info.name, scorer.info.version, scorer.info.weights_hash)
    return _replaced(submission, rows, by, datetime.now(UTC).isoformat(timespec="seconds"))


def keep_rescored(folder: Path, submission: Submission) -> Path:
    """Write the new rows and the notice beside the submissions; earlier ones of the same submission are replaced.

    Args:
        folder: of the submissions.
        submission: as :func:`rescore` gave it.

    Returns:
        The path of the new rows.
    """
    name, found = submission.info.id, submission.rescored
    if found is None:
        raise ValueError("not rescored")
    notices = read_notices(folder)
    path = folder / RESCORED / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    write_rows(path, submission.verdicts)
    tiers = notices.get("tiers", {})
    notice = {"by": asdict(found.by), "at": found.at, "rows": found.rows, "same": found.same}
    write_json(
        folder / NOTICES,
        {
            **notices,
            "tiers": tiers if tiers.get(name) == "verified" else {**tiers, name: "rescored"},
            "rescored": {**notices.get("rescored", {}), name: notice},
        },
    )
    return path


def read_notices(folder: Path) -> dict[str, dict[str, object]]:
    """``notices.json``; empty where there is none.

    Raises:
        DemurError: it breaks its schema.
    """
    path = folder / NOTICES
    if not path.is_file():
        return {}
    value: dict[str, dict[str, object]] = read_json(path)
    check(value, "demur.leaderboard", "notices", str(path))
    return value


def with_rescored(folder: Path, submission: Submission, notice: object) -> Submission:
    """The submission with the maintainers' rows in the place of the submitter's.

    Raises:
        DemurError: the rows are missing or damaged, are not of the same responses, or do not agree as the notice says.
    """
    path = folder / RESCORED / f"{submission.info.id}.parquet"
    if not path.is_file():
        raise DemurError(f"{path}: missing, though {NOTICES} says that the submission was rescored", _AGAIN)
    rows, faults = read_rows(path, submission.info.rows)
    raise_all(str(path), faults, _AGAIN)
    keys = ["prompt_id", "sample", "response_sha256"]
    if rows is None or not rows[keys].equals(submission.verdicts[keys].astype(rows[keys].dtypes.to_dict())):
        raise DemurError(f"{path}: its rows are not of the responses of the submission", _AGAIN)
    said = dict(notice) if isinstance(notice, dict) else {}
    found = _replaced(submission, rows, build(ScorerId, said["by"]), str(said["at"]))
    if found.rescored is None or (found.rescored.rows, found.rescored.same) != (said["rows"], said["same"]):
        raise DemurError(f"{path}: its labels do not agree with the submitter's as {NOTICES} says", _AGAIN)
    return found


_AGAIN = "rescore it again with `demur verify SUBMISSION --responses …`"


def _replaced(submission: Submission, rows: pd.DataFrame, by: ScorerId, at: str) -> Submission:
    submitted = submission.verdicts
    same = int((rows["label"].to_numpy() == submitted["label"].to_numpy()).sum())
    others = submission.others
    kept = [one.scorer for one in submission.info.agreement if one.scorer.name != by.name]
    agreement = [] if others is None else scorer_agreement(rows, others, kept)
    return replace(
        submission,
        info=replace(submission.info, scorer=by, agreement=agreement),
        verdicts=rows,
        draws=count_draws(verdict_table(rows, submission.info.pairs)),
        rescored=Rescored(by=by, submitted=submission.info.scorer, at=at, rows=len(rows), same=same),
    )
