"""What a board shows of a steering stress test: per system figures and controls, or why figures are held back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .statistics.values import Estimate

__all__ = [
    "EQUAL_KL",
    "StressControl",
    "StressFigure",
    "StressPoint",
    "StressReport",
    "StressSystem",
    "stress_report",
]

EQUAL_KL = 0.1
"""The damage, in nats on benign prompts, at which systems are compared on the board."""


@dataclass(frozen=True, slots=True)
class StressFigure:
    """One figure; where it is undefined, ``reason`` may say why."""

    name: str
    estimate: Estimate
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StressControl:
    """Rise of the share of harmful prompts that are answered, by an arm at the dose that its own search chose."""

    arm: str
    answered: Estimate


@dataclass(frozen=True, slots=True)
class StressPoint:
    """Refusal rate at one dose."""

    dose: float
    refusal_rate: Estimate


@dataclass(frozen=True, slots=True)
class StressSystem:
    """One way of steering.

    Attributes:
        published: the self-test and the controls allow its figures.
        reason: why they are held back; empty where they are not.
        figures: empty where they are held back.
        controls: every arm, the real one first; they stay where figures are held back, for they are the reason.
        curve: refusal rate against dose; empty for S5 and where figures are held back.
    """

    system: str
    published: bool
    reason: str
    figures: list[StressFigure]
    controls: list[StressControl]
    curve: list[StressPoint]


@dataclass(frozen=True, slots=True)
class StressReport:
    """The stress test of one model.

    Attributes:
        judge: of the short answers.
        pairs: test pairs.
        refusal_rate: of the unsteered model on them.
        over_refusal_rate: the same on their benign twins.
        figures: those that several systems make together.
    """

    package_version: str
    judge: str
    budget: str
    pairs: int
    refusal_rate: float | None
    over_refusal_rate: float | None
    systems: list[StressSystem]
    figures: list[StressFigure]


def stress_report(value: Mapping[str, Any]) -> StressReport:
    """What a board shows of a ``stress.json`` that was checked (:func:`.submissions.stress.stress_problems`)."""
    unsteered = value["unsteered"]
    share, experts = value["single_expert_share"], value["experts"]
    figures = [StressFigure("single_expert_share", _estimate(share), share["reason"])]
    if experts is not None:
        figures += [
            StressFigure("expert_concentration", _estimate(experts["concentration"])),
            StressFigure("routing_correlation", _estimate(experts["routing_correlation"])),
        ]
    return StressReport(
        package_version=value["provenance"]["package_version"],
        judge=value["provenance"]["judge"],
        budget=str(value["plan"]["budget"]),
        pairs=unsteered["test_pairs"],
        refusal_rate=unsteered["refusal_rate"],
        over_refusal_rate=unsteered["over_refusal_rate"],
        systems=[_system(name, value["systems"][name]) for name in sorted(value["systems"])],
        figures=figures,
    )


def _system(name: str, entry: Mapping[str, Any]) -> StressSystem:
    arms = sorted(entry["controls"], key=lambda arm: (arm != "real", arm))
    controls = [StressControl(arm, _estimate(entry["controls"][arm]["answered"])) for arm in arms]
    published, reason = entry["published"], entry["reason"]
    if published and len(controls) < 2:
        # The test publishes what no control contradicts; a board wants a control to have spoken.
        published, reason = False, "no control was measured beside it"
    figures = entry["figures"] if published else None
    return StressSystem(
        system=name,
        published=published,
        reason=reason,
        figures=list(_figures(entry, figures)) if figures else [],
        controls=controls,
        curve=[StressPoint(p["dose"], _estimate(p["refusal_rate"])) for p in (figures or {}).get("curve", ())],
    )


def _figures(entry: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[StressFigure]:
    if "curve" not in figures:
        parts = figures["log_odds"]
        for part, share in (parts["shares"] or {}).items():
            yield StressFigure(f"{part}_share", _estimate(share))
        if parts["shares"] is None:
            yield StressFigure("shares", Estimate(None), parts["reason"])
        yield StressFigure("interaction", _estimate(parts["interaction"]))
        return
    yield StressFigure("answered", _estimate(entry["controls"]["real"]["answered"]))
    half = figures["dose_50"]
    yield StressFigure(
        "dose_50", _estimate(half), "" if half["value"] is not None else "refusal does not fall by half at any dose"
    )
    yield StressFigure("area", _estimate(figures["area"]))
    yield from (
        StressFigure("drop_at_equal_kl", _estimate(at["drop"])) for at in figures["equal_kl"] if at["kl"] == EQUAL_KL
    )
    if figures["induction"]:
        yield StressFigure("over_refusal_induced", _estimate(figures["induction"][-1]["over_refusal_rate"]))


def _estimate(value: Mapping[str, Any]) -> Estimate:
    return Estimate(value["value"], value["low"], value["high"])
