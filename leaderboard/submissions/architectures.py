"""Curated facts about models whose own files are not at hand, each with its source."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from ...benchmark.schema import check

__all__ = ["Curated", "curated"]


@dataclass(frozen=True, slots=True)
class Curated:
    """What is published about a model; None where it is not.

    Attributes:
        names: ids that the model goes by.
        source: where the facts stand.
    """

    names: list[str]
    maker: str
    architecture: Literal["dense", "moe", "undisclosed"]
    source: str
    total_parameters: int | None = None
    active_parameters: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    base_model: str | None = None

    def facts(self) -> dict[str, Any]:
        """The fields that a model's record shares with this one."""
        return {
            "architecture": self.architecture,
            "total_parameters": self.total_parameters,
            "active_parameters": self.active_parameters,
            "experts": self.experts,
            "experts_per_token": self.experts_per_token,
        }


def curated(name: str) -> Curated | None:
    """The entry of ``models.yaml`` for a model id; None where there is none."""
    return _entries().get(name)


@cache
def _entries() -> dict[str, Curated]:
    value = yaml.safe_load(files(__package__).joinpath("models.yaml").read_text(encoding="utf-8"))
    check(value, "demur.leaderboard", "models", "models.yaml", "correct the entry named")
    return {name: entry for one in value["models"] for entry in (Curated(**one),) for name in entry.names}
