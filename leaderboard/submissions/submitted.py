"""What a submission says: ``submission.json`` as a record, and the rows beside it."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd

from ..statistics.draws import Draws
from ..statistics.figures import Figures
from .identity import Count, Hash, Id, Limit, Model, Name, PromptSource, ScorerId, Setting, Text, Time, Version

__all__ = ["ROW_COLUMNS", "Submission", "SubmissionInfo"]

ROW_COLUMNS = ("prompt_id", "sample", "label", "reason", "p_refused", "response_sha256")


@dataclass(frozen=True, slots=True)
class SubmissionInfo:
    """``submission.json``.

    Attributes:
        id: name of the submission's folder; made of the model's id, the split and the rows' hash.
        created_at: when the run began, UTC, ISO 8601.
        pairs: pair id to hazard of every pair that was asked, so that figures need no prompt set.
        template_sha256: of the chat template; None where the backend does not show it.
        rows: rows of ``verdicts.parquet``.
        rows_sha256: over the rows in order (see :func:`demur.leaderboard.submissions.submission.rows_sha256`).
        salt_sha256: of the salt of the response hashes; the salt itself stays with the submitter.
        figures: as the submitter computed them; a board recomputes them all.
        supersedes: ids of earlier submissions of the same model that this one replaces.
    """

    format: Literal["demur-submission/1"]
    id: Id
    created_at: Time
    package_version: Version
    model: Model
    setting: Setting
    scorer: ScorerId
    prompts: PromptSource
    pairs: dict[str, Name]
    template_sha256: Hash | None
    rows: Count
    rows_sha256: Hash
    salt_sha256: Hash
    figures: Figures
    supersedes: list[Id]
    contact: Annotated[Text, Limit("maxLength", 200)]
    notes: Text


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission that was read and checked.

    Attributes:
        verdicts: one row per response, the columns of ``ROW_COLUMNS``, sorted by prompt id and sample.
        draws: the counts of these rows.
    """

    info: SubmissionInfo
    verdicts: pd.DataFrame
    draws: Draws
