"""Scorers side by side on one labelled table, and the cards that say what a scorer is."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..benchmark.errors import DemurError
from . import SCORERS, get_scorer
from .agreement import agreement, codes_of
from .calibration import reliability, reliability_diagram
from .guard_entries import find_guard, guard_card
from .labelled import Labelled
from .validation import human_agreement, validate
from .verdicts import Verdict

if TYPE_CHECKING:
    from .judge import JudgeSettings

__all__ = ["card_of", "compare"]


def compare(
    labelled: Labelled, scorers: Sequence[str], diagram: Path | None = None, judge: "JudgeSettings | None" = None
) -> tuple[dict[str, Any], dict[str, list[Verdict]]]:
    """Figures of every scorer on one table.

    Args:
        labelled: the table.
        scorers: names of scorers.
        diagram: where to draw the reliability diagram, if anywhere.
        judge: how judges are asked.

    Returns:
        The report, ready for JSON (``results``, ``scorer_agreement`` and, where two annotators are given,
        ``human_agreement``), and each scorer's verdicts in the order of the table.
    """
    said = {name: list(get_scorer(name, judge).score(labelled.requests)) for name in dict.fromkeys(scorers)}
    results = []
    for name, verdicts in said.items():
        results += validate(name, labelled.labels, verdicts, groups=labelled.groups, clusters=labelled.clusters)
    report: dict[str, Any] = {"results": results}
    report["scorer_agreement"] = agreement(
        {name: codes_of([v.label for v in verdicts]) for name, verdicts in said.items()}
    )
    if labelled.annotations:
        first, second = labelled.annotations
        report["human_agreement"] = human_agreement(first, second, labelled.clusters)
    if diagram:
        reliability_diagram(diagram, {name: _curve(labelled, verdicts) for name, verdicts in said.items()})
    return report, said


def card_of(name: str) -> str:
    """The card of a scorer or of a guard (``guard:NAME``), as Markdown.

    Raises:
        DemurError: there is no scorer of this name.
    """
    if name.startswith("guard:"):
        return guard_card(find_guard(name.removeprefix("guard:")))
    if name not in SCORERS:
        raise DemurError(f"no card of a scorer {name!r}", f"choose one of {', '.join(sorted(SCORERS))}, or guard:NAME")
    return files(__package__).joinpath("cards", f"{name}.md").read_text(encoding="utf-8")


def _curve(labelled: Labelled, verdicts: Sequence[Verdict]) -> list[dict[str, float]]:
    pairs = [
        (verdict.p_refused, float(label != "complied"))
        for label, verdict in zip(labelled.labels, verdicts, strict=True)
        if verdict.p_refused is not None
    ]
    p, refused = np.array(pairs, float).reshape(-1, 2).T
    return reliability(p, refused)
