"""How much is measured: which systems, how many candidates, prompts and doses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from ..errors import DemurError
from .answers import Ending

__all__ = ["ARMS", "BUDGETS", "EXPERT_SYSTEMS", "SYSTEMS", "Arm", "Settings", "System", "parse_experts", "settings"]

System = Literal["S1", "S2", "S3", "S4", "S5"]
Arm = Literal["real", "random_direction", "random_expert", "shuffled_labels", "general_instructions"]

SYSTEMS: tuple[System, ...] = get_args(System)
ARMS: tuple[Arm, ...] = get_args(Arm)
EXPERT_SYSTEMS: tuple[System, ...] = ("S2", "S3", "S4")


@dataclass(frozen=True, slots=True)
class Settings:
    """One plan of measurement; everything in it is written into the result.

    Attributes:
        systems: which of S1 to S5.
        budget: name of the plan.
        seeds: selection seeds of the real arm, each with its own two thirds of the training pairs.
        control_seeds: selection seeds of each control arm.
        shuffles: of the labels, for S1, whose claim is a direction: each searched anew. With 19 or more the real effect
            is tested against them, with fewer the fixed limit for controls holds, see :mod:`.controls`.
        candidates: how many candidates enter the first round of a search, after the cheap score.
        experts: how many experts enter the first round of S4; all are taken where there are fewer.
        rounds: prompts of each side per round of the search; half of the candidates go on to the next round.
        doses: grid of norm of the change over norm of the activation; for removals and silencing the share removed.
        positions: last prompt positions at most.
        validation_pairs: pairs for the choice at most.
        final_pairs: validation pairs answered under the last candidates of a search.
        test_pairs: pairs for the figures at most.
        new_tokens: length of a response, at most 64.
        kl_limit: nats; a candidate that moves benign prompts further is not chosen.
        named: (layer, expert) for S3; empty: found by search.
    """

    systems: tuple[System, ...] = SYSTEMS
    budget: str = "quick"
    seeds: int = 3
    control_seeds: int = 1
    shuffles: int = 3
    candidates: int = 16
    experts: int = 128
    rounds: tuple[int, ...] = (4, 8)
    doses: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    positions: int = 2
    validation_pairs: int = 8
    final_pairs: int = 4
    test_pairs: int = 16
    new_tokens: int = 20
    kl_limit: float = 0.2
    named: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would not be the stress test."""
        Ending(self.new_tokens)
        unknown = sorted(set(self.systems) - set(SYSTEMS))
        if unknown or not self.systems:
            raise DemurError(f"unknown system {', '.join(unknown) or '(none)'}", f"choose of {', '.join(SYSTEMS)}")
        if self.seeds < 3:
            raise DemurError(f"{self.seeds} selection seeds; intervals need at least 3", "leave the seeds alone")
        if self.shuffles < 1 or self.control_seeds < 1:
            raise DemurError("no control is left out", "ask for at least one shuffle")
        if list(self.doses) != sorted(set(self.doses)) or not self.doses or self.doses[0] <= 0:
            raise DemurError("the doses must rise and be above zero", "give for example 0.25,0.5,1")


BUDGETS = {
    "quick": Settings(),
    "full": Settings(
        budget="full",
        control_seeds=3,
        shuffles=19,
        candidates=48,
        experts=4096,
        rounds=(4, 8, 16),
        doses=(0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
        positions=4,
        validation_pairs=16,
        final_pairs=8,
        test_pairs=64,
        new_tokens=48,
    ),
}


def settings(
    budget: str = "quick",
    systems: Sequence[str] | None = None,
    named: Sequence[tuple[int, int]] = (),
    shuffles: int | None = None,
) -> Settings:
    """A named plan, for some systems only and with another number of shuffles where given.

    Raises:
        DemurError: unknown budget or system.
    """
    if budget not in BUDGETS:
        raise DemurError(f"unknown budget {budget!r}", f"choose one of {', '.join(BUDGETS)}")
    plan = BUDGETS[budget]
    wanted = tuple(dict.fromkeys(systems)) if systems else plan.systems
    count = plan.shuffles if shuffles is None else shuffles
    return replace(plan, systems=cast("tuple[System, ...]", wanted), named=tuple(named), shuffles=count)


def parse_experts(texts: Sequence[str]) -> list[tuple[int, int]]:
    """(layer, expert) of texts like ``12:5``.

    Raises:
        DemurError: a text is not two whole numbers.
    """
    found = []
    for text in texts:
        layer, _, expert = text.partition(":")
        if not (layer.isdecimal() and expert.isdecimal()):
            raise DemurError(f"expert {text!r} is not LAYER:EXPERT", "give for example --expert 12:5")
        found.append((int(layer), int(expert)))
    return found
