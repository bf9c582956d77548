"""The figures of a reading that tables show: one entry each, for the ranking, the model's page and the comparison."""

from typing import NamedTuple

__all__ = ["RATES", "SIDES", "Shown"]


class Shown(NamedTuple):
    """A figure as tables show it.

    Attributes:
        key: its name in the page's data and address.
        title: its heading.
        field: where :class:`~demur.leaderboard.board.ReadingFigures` has it, dotted.
        high: higher is better; sorting starts there.
        ranked: the ranking has a column of it.
    """

    key: str
    title: str
    field: str
    high: bool = True
    ranked: bool = True


RATES = (
    Shown("r", "Refusal rate", "refusal_rate"),
    Shown("o", "Over-refusal rate", "over_refusal_rate", high=False),
    Shown("j", "J", "discrimination"),
)
"""Estimates with an interval, in the order of :data:`demur.leaderboard.statistics.figures.RATES`."""

SIDES = (
    Shown("same", "Same-prompt agreement", "agreement.sampling"),
    Shown("reworded", "Reworded agreement", "agreement.wording"),
    Shown("alpha", "Krippendorff\N{RIGHT SINGLE QUOTATION MARK}s \N{GREEK SMALL LETTER ALPHA}", "alpha", ranked=False),
)
"""Figures of both sides together and of each."""
