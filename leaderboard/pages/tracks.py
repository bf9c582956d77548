"""Tracks of others' verdicts as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..board import ExternalModel, ExternalTrack
from .text import shown

__all__ = ["TrackRow", "TrackTable", "track_tables"]

_TITLES = {
    "n": "Responses",
    "coverage": "Coverage",
    "refusal_rate": "Refusal rate",
    "refusal_rate_strict": "Refusal rate, strict",
    "discrimination": "J of the two groups",
    "c_4": "C@4 of the two groups",
    "sampling_agreement": "Same-prompt agreement",
    "ssi": "Stability index",
    "flip_rate": "Flip rate",
    "unstable": "Unstable",
    "alpha": "α",
}


@dataclass(frozen=True, slots=True)
class TrackRow:
    """One model of a track; ``cells`` go with the table's columns, each as value, low and high."""

    model: str
    arch: str
    active: int | None
    source: str
    cells: list[tuple[float | None, float | None, float | None]]


@dataclass(frozen=True, slots=True)
class TrackTable:
    """A track with its columns as (key, heading)."""

    name: str
    description: str
    source: str
    notes: list[str]
    columns: list[tuple[str, str]]
    rows: list[TrackRow]


def track_tables(tracks: Sequence[ExternalTrack]) -> list[TrackTable]:
    """The tables of all tracks. Columns are the label-level figures that a track's models have, then rates by group."""
    return [_table(track) for track in tracks]


def _table(track: ExternalTrack) -> TrackTable:
    columns = [(key, title) for key, title in _TITLES.items() if any(_value(m, key) is not None for m in track.models)]
    columns += [(f"group/{group}", f"Refusal rate, {group.replace('_', ' ')}") for group in track.groups]
    rows = [
        TrackRow(m.model, m.architecture, m.active_parameters, m.source, [_cell(m, key) for key, _ in columns])
        for m in track.models
    ]
    return TrackTable(track.name, track.description, track.source, track.notes, columns, rows)


def _cell(model: ExternalModel, key: str) -> tuple[float | None, float | None, float | None]:
    value = _value(model, key)
    low, high = model.figures.get("intervals", {}).get(key) or (None, None)
    return value if isinstance(value, int) else shown(value), shown(low), shown(high)


def _value(model: ExternalModel, key: str) -> float | None:
    figures: Any = model.figures
    if key.startswith("group/"):
        figures, key = figures.get("groups", {}).get(key.removeprefix("group/"), {}), "refusal_rate"
    if key == "c_4":
        curve = figures.get("c_k", [])
        return curve[3] if len(curve) > 3 else None
    value: float | None = figures.get(key)
    return value
