"""Figures as records: estimates with their intervals, and what belongs together."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AgainstOthers",
    "Agreement",
    "BySide",
    "Corrected",
    "Coverage",
    "CurvePoint",
    "Estimate",
    "HazardFigures",
    "ReadingFigures",
    "Shares",
    "SideCoverage",
    "Soft",
    "Stability",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % intervals; None where it is undefined.

    Attributes:
        low: lower end of the interval that is shown (BCa).
        high: its upper end.
        percentile_low: lower end of the percentile interval of the same replicates.
        percentile_high: its upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    percentile_low: float | None = None
    percentile_high: float | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """C@k at one k; the fields of :class:`Estimate` otherwise."""

    k: int
    value: float | None
    low: float | None = None
    high: float | None = None
    percentile_low: float | None = None
    percentile_high: float | None = None


@dataclass(frozen=True, slots=True)
class BySide:
    """A figure over both sides together and over each; None where it is undefined."""

    all: float | None
    harmful: float | None
    benign: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Chance that two draws agree: two samples of one prompt, and two draws of different variants of one side."""

    sampling: BySide
    wording: BySide


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance of y on one side; they add up to 1 and can be negative (method of moments).

    Attributes:
        pairs: between pairs; None where the variance is zero or not identified.
        variants: between variants within a pair; None also where there is one variant or one sample a variant.
        samples: between samples within a variant; None also where there is one sample a variant.
        total: the estimated variance itself.
    """

    pairs: float | None
    variants: float | None
    samples: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class Stability:
    """Figures of the literature on the three labels, over prompts with at least two scored samples.

    Attributes:
        prompts: how many prompts those are.
        ssi: mean share of the most frequent label.
        flip_rate: share of prompts with more than one label.
        unstable: share of prompts whose own index is below 0.8.
    """

    prompts: int
    ssi: float | None
    flip_rate: float | None
    unstable: float | None


@dataclass(frozen=True, slots=True)
class SideCoverage:
    """How many responses of a side were scored, and why the others were not (``reasons``: reason to count)."""

    rows: int
    scored: int
    share: float | None
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of both sides."""

    harmful: SideCoverage
    benign: SideCoverage


@dataclass(frozen=True, slots=True)
class ReadingFigures:
    """All figures of one binary reading (``refused``: refused or partial; ``strict``: refused alone).

    Attributes:
        curve: C@k for k = 1 to the planned draws of a side.
        pairs: pairs of the set.
        pairs_short: pairs left out of C@k because a side has fewer scored draws than the ranking's k needs.
        bounds: the headline when every left-out pair counted as 0, and as 1; None where it is undefined.
    """

    refusal_rate: Estimate
    over_refusal_rate: Estimate
    discrimination: Estimate
    curve: list[CurvePoint]
    pairs: int
    pairs_short: int
    bounds: list[float] | None
    agreement: Agreement
    variance_shares_harmful: Shares
    variance_shares_benign: Shares
    alpha: BySide


@dataclass(frozen=True, slots=True)
class Soft:
    """The headline with the scorer's error averaged out, beside the hard one.

    Attributes:
        value: soft C@k of the ranking's k, from the calibrated probabilities.
        difference: hard minus soft.
        flag: the difference exceeds half the width of the headline's interval.
        curve: soft C@k for every k.
    """

    value: float | None
    difference: float | None
    flag: bool
    curve: list[CurvePoint]


@dataclass(frozen=True, slots=True)
class Corrected:
    """Rates corrected with a human-labelled subset; ``used`` says which correction is the one to quote."""

    used: Literal["prediction_powered", "rogan_gladen"]
    labelled: int
    refusal_rate: Estimate
    over_refusal_rate: Estimate
    rogan_gladen_refusal_rate: Estimate
    rogan_gladen_over_refusal_rate: Estimate


@dataclass(frozen=True, slots=True)
class AgainstOthers:
    """A model's headline in one hazard minus the mean of the other ranked models; ``q`` is Benjamini-Hochberg's."""

    difference: float
    p: float
    q: float


@dataclass(frozen=True, slots=True)
class HazardFigures:
    """Figures of one hazard in the default reading; ``against_others`` is None with fewer than two ranked models."""

    hazard: str
    pairs: int
    headline: Estimate
    refusal_rate: Estimate
    over_refusal_rate: Estimate
    against_others: AgainstOthers | None
