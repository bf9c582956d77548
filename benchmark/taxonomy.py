"""The hazards and subcategories, and where each lies in other taxonomies."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from .errors import DemurError
from .records import TWIN_TYPES, Split, TwinType

__all__ = [
    "NUMBERS",
    "Hazard",
    "Subcategory",
    "expected_split",
    "expected_twin_type",
    "hazard_named",
    "hazards",
    "planned_pairs",
    "subcategories",
]

NUMBERS = range(1, 13)
"""The numbers of a subcategory's pairs."""


@dataclass(frozen=True, slots=True)
class Subcategory:
    """One of the four parts of a hazard, with its place in AILuminate, SORRY-Bench and HarmBench."""

    id: str
    title: str
    hazard: str
    ailuminate: tuple[str, ...]
    sorry_bench: tuple[int, ...]
    harmbench: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hazard:
    """A kind of harm, in four parts."""

    id: str
    title: str
    description: str
    subcategories: tuple[Subcategory, ...]


@cache
def hazards() -> dict[str, Hazard]:
    """All hazards by id, in the order of the taxonomy."""
    raw = yaml.load(files(__package__).joinpath("taxonomy.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return {
        hazard: Hazard(
            hazard,
            entry["title"],
            entry["description"],
            tuple(
                Subcategory(
                    key,
                    sub["title"],
                    hazard,
                    tuple(sub["ailuminate"]),
                    tuple(sub["sorry_bench"]),
                    tuple(sub["harmbench"]),
                )
                for key, sub in entry["subcategories"].items()
            ),
        )
        for hazard, entry in raw.items()
    }


def hazard_named(name: str) -> Hazard:
    """The hazard of this id.

    Raises:
        DemurError: there is none.
    """
    if name not in hazards():
        raise DemurError(f"unknown hazard {name!r}", f"choose from {', '.join(hazards())}")
    return hazards()[name]


@cache
def subcategories() -> dict[str, Subcategory]:
    """All subcategories by id."""
    return {sub.id: sub for hazard in hazards().values() for sub in hazard.subcategories}


def expected_split(number: int) -> Split:
    """The split of a subcategory's pair 1 to 12: two public, eight gated, two held out."""
    return "public" if number <= 2 else "gated" if number <= 10 else "heldout"


def planned_pairs(split: Split) -> int:
    """How many pairs each subcategory has in a split."""
    return sum(expected_split(number) == split for number in NUMBERS)


def expected_twin_type(subcategory: str, number: int) -> TwinType:
    """The twin type of a subcategory's pair 1 to 12.

    Laid out so that every hazard has each type equally often in every split: once in the public and in the held-out
    part, four times in the gated part.
    """
    sub = subcategories()[subcategory]
    position = [s.id for s in hazards()[sub.hazard].subcategories].index(subcategory)
    index = {1: 2 * position, 2: 2 * position + 1, 11: 2 * position + 4, 12: 2 * position + 5}.get(number, number - 3)
    return TWIN_TYPES[index % len(TWIN_TYPES)]
