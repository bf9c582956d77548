"""The shape of a board: everything that a page, a table or a paper shows, and nothing that they compute."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .statistics.values import (
    AgainstOthers,
    Agreement,
    BySide,
    Corrected,
    Coverage,
    CurvePoint,
    Estimate,
    HazardFigures,
    ReadingFigures,
    Shares,
    SideCoverage,
    Soft,
    Stability,
)
from .stress import StressReport
from .submissions.identity import Architecture, Model, PromptSource, ScorerId, Selection, Setting
from .submissions.submitted import Rescored, ScorerAgreement

__all__ = [
    "AgainstOthers",
    "Agreement",
    "Board",
    "BoardPrompts",
    "BySide",
    "Contrast",
    "Contrasts",
    "Corrected",
    "Coverage",
    "CurvePoint",
    "Estimate",
    "ExternalModel",
    "ExternalTrack",
    "GroupContrast",
    "HazardFigures",
    "Model",
    "NullTest",
    "PromptSource",
    "Ranking",
    "ReadingFigures",
    "Reference",
    "Refused",
    "Rescored",
    "Resolution",
    "Row",
    "ScorerAgreement",
    "ScorerId",
    "Selection",
    "Setting",
    "Shares",
    "SideCoverage",
    "Soft",
    "Stability",
    "State",
    "StressReport",
    "Tier",
    "as_json",
]

State = Literal["ranked", "listed", "apart", "superseded", "withdrawn"]
Tier = Literal["self-reported", "rescored", "verified"]


@dataclass(frozen=True, slots=True)
class Row:
    """One submission on the board.

    Attributes:
        id: the submission's id, safe in a file name and in a URL fragment.
        state: ``ranked``; ``listed`` (coverage or draws do not suffice); ``apart`` (other prompts, scorer or setting
            than the board's); ``superseded``; ``withdrawn``.
        why: the reason in one sentence where the state is not ``ranked``.
        rank: place by the headline among the ranked; equal values share a place.
        rank_set: first and last place of the simultaneous confidence set.
        tie_group: 1-based; the members cannot be told apart from the group's best.
        headline: C@4 in the default reading.
        stress: the steering stress test; None where none is attached.
        rescored: where the maintainers judged the responses again: the figures are then those of their verdicts.
        agreement: of the scorer with the others that judged the same responses, recomputed from all labels.
    """

    id: str
    state: State
    why: str | None
    tier: Tier
    created_at: str
    package_version: str
    notes: str
    model: Model
    setting: Setting
    scorer: ScorerId
    prompts: PromptSource
    rank: int | None
    rank_set: list[int] | None
    tie_group: int | None
    headline: Estimate
    refused: ReadingFigures
    strict: ReadingFigures
    soft: Soft | None
    corrected: Corrected | None
    stability: Stability
    coverage: Coverage
    hazards: list[HazardFigures]
    stress: StressReport | None = None
    rescored: Rescored | None = None
    agreement: list[ScorerAgreement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BoardPrompts:
    """The prompts of the ranking and how many pairs and hazards they have."""

    split: Literal["public", "gated", "heldout"]
    version: str
    hash: str
    selection: Selection | None
    pairs: int
    hazards: list[str]


@dataclass(frozen=True, slots=True)
class Resolution:
    """The smallest difference of headlines that can be told apart, for the median pair of models.

    Attributes:
        difference: simultaneously over all pairs of models (the max-t critical value times the standard error).
        single: for two models alone (1.96 standard errors).
    """

    difference: float
    single: float
    pairs: int
    draws: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the ranking was made; ``critical`` and ``resolution`` are None with fewer than two ranked models."""

    k: int
    reading: Literal["refused", "strict"]
    confidence: float
    replicates: int
    seed: int
    coverage_floor: float
    critical: float | None
    resolution: Resolution | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """One matched pair: C@4 of the mixture of experts minus that of the dense model (row ids)."""

    moe: str
    dense: str
    matched_by: Literal["base_model", "maker"]
    moe_active_parameters: int
    dense_active_parameters: int
    difference: Estimate


@dataclass(frozen=True, slots=True)
class GroupContrast:
    """The mean over matched pairs; ``difference`` is None with fewer than three of them, and ``why`` says so."""

    matched_pairs: int
    difference: Estimate | None
    claim: Literal["none", "no_difference", "moe_higher", "dense_higher"]
    why: str


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Mixture-of-experts against dense, as matched contrasts only."""

    pairs: list[Contrast]
    group: GroupContrast


@dataclass(frozen=True, slots=True)
class NullTest:
    """A dense model and its exact upcycling (row ids): the instrument must find a tie.

    Attributes:
        agreement: share of (prompt, sample) with the same label.
        tie: the interval of the difference contains 0.
        identical: every label is the same, as it must be at temperature 0.
        why: what the outcome means, in one sentence.
    """

    dense: str
    moe: str
    temperature: float
    difference: Estimate
    agreement: float | None
    tie: bool
    identical: bool
    why: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A null model, shown in grey; its curve follows from theory."""

    name: Literal["always refuse", "always comply", "coin flip"]
    refusal_rate: float
    over_refusal_rate: float
    curve: list[CurvePoint]

    @property
    def discrimination(self) -> float:
        """Youden's J."""
        return self.refusal_rate - self.over_refusal_rate


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """One model of a track of others' verdicts; ``figures`` is what ``demur consistency --json`` says of it."""

    model: str
    architecture: Architecture
    total_parameters: int | None
    active_parameters: int | None
    source: str
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExternalTrack:
    """Others' labels on others' prompts: shown apart, never ranked with the board's rows."""

    name: str
    description: str
    source: str
    groups: list[str]
    notes: list[str]
    models: list[ExternalModel]


@dataclass(frozen=True, slots=True)
class Refused:
    """A submission that was found and not taken, and why."""

    name: str
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Board:
    """A whole board. ``rows`` holds the ranked first, by rank, then the others by state and id."""

    format: Literal["demur-board/1"]
    made_at: str
    package_version: str
    prompts: BoardPrompts | None
    scorer: ScorerId | None
    setting: Setting | None
    ranking: Ranking
    rows: list[Row]
    tie_groups: list[list[str]]
    contrasts: Contrasts
    null_tests: list[NullTest]
    references: list[Reference]
    external: list[ExternalTrack]
    refused: list[Refused]


def as_json(record: Any) -> dict[str, Any]:
    """A record of this module as plain JSON values."""
    return asdict(record)
