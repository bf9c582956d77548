"""What a submission says: ``submission.json`` as a record, and the rows beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pandas as pd

from ..statistics.draws import Draws
from ..statistics.figures import Figures
from .identity import Count, Hash, Id, Limit, Model, Name, PromptSource, ScorerId, Setting, Text, Time, Version

__all__ = ["MOST_OTHERS", "ROW_COLUMNS", "Rescored", "ScorerAgreement", "SideAgreement", "Submission", "SubmissionInfo"]

ROW_COLUMNS = ("prompt_id", "sample", "label", "reason", "p_refused", "response_sha256")
MOST_OTHERS = 20


@dataclass(frozen=True, slots=True)
class SideAgreement:
    """Agreement of two scorers on the responses that both scored, ``partial`` read as refused.

    Attributes:
        n: responses that both scored.
        same: share of them with the same reading.
        kappa: Cohen's; None where it is undefined, as where both say one thing throughout.
        alpha: Krippendorff's; None likewise.
    """

    n: Count
    same: float | None
    kappa: float | None
    alpha: float | None


@dataclass(frozen=True, slots=True)
class ScorerAgreement:
    """Agreement of a submission's scorer with another one that judged the same responses."""

    scorer: ScorerId
    all: SideAgreement
    harmful: SideAgreement
    benign: SideAgreement


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
        stress_sha256: of ``stress.json`` beside it; None where no stress test is attached.
        agreement: with each other scorer that judged the same responses, whose labels are in ``others.parquet``.
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
    stress_sha256: Hash | None = None
    agreement: Annotated[list[ScorerAgreement], Limit("maxItems", MOST_OTHERS)] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rescored:
    """How the submitter's verdicts and the maintainers' compare.

    Attributes:
        by: the maintainers' scorer.
        submitted: the submitter's scorer.
        at: when, UTC, ISO 8601.
        rows: responses that were judged again.
        same: of them, those with the same label.
    """

    by: ScorerId
    submitted: ScorerId
    at: Time
    rows: Count
    same: Count


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission that was read and checked.

    Attributes:
        verdicts: one row per response, the columns of ``ROW_COLUMNS``, sorted by prompt id and sample.
        draws: the counts of these rows.
        stress: what ``stress.json`` holds, checked; None where none is attached.
        others: labels of other scorers, row by row; None where there are none.
        rescored: set where the maintainers judged the responses again: ``verdicts`` and ``info.scorer`` are then
            theirs.
    """

    info: SubmissionInfo
    verdicts: pd.DataFrame
    draws: Draws
    stress: Mapping[str, Any] | None = None
    others: pd.DataFrame | None = None
    rescored: Rescored | None = None
