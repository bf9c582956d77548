"""What the charts have in common: scales, marks, labels and look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import altair as alt

from ..board import Board, CurvePoint, Row
from .palette import LIGHT, MARKS
from .text import ARCHITECTURES, decimals, interval

__all__ = [
    "LABELLED",
    "WIDTH",
    "Chart",
    "beside",
    "colour",
    "curve",
    "finish",
    "headline",
    "label_room",
    "marks_of",
    "models",
    "ranked",
    "shape",
    "share_x",
    "share_y",
    "spread",
    "ticks",
    "value_at",
]

# Charts are drawn narrow, so that a phone shows them at a readable size; a wide window enlarges them a little.
WIDTH = 440
# So many models have their names in the chart; of more, some or none.
LABELLED = 8
_AXIS = 13
_QUARTERS = [0, 0.25, 0.5, 0.75, 1]


class _Place(NamedTuple):
    """Where a name stands: text alignment, pixels aside, height above, where it starts in its own lengths, cost."""

    align: Literal["left", "center", "right"]
    shift: int
    lift: float
    start: float
    cost: float


_PLACES = (_Place("left", 9, 0.0, 0.0, 0.0), _Place("right", -9, 0.0, -1.0, 0.1), _Place("center", 0, 0.05, -0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is ready to be drawn.

    Attributes:
        name: its file name and id.
        title: its heading.
        description: what it shows and what is to be seen in it, in words.
        spec: the Vega-Lite specification; marks that stand for a row carry the row's id as their description.
        inline: it is drawn in the page; otherwise a table is its place there and the files alone are linked.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    inline: bool = True


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: the places nearest to ``places`` in which neighbours are at least ``gap`` apart.

    Order is kept and everything stays within ``low`` and ``high`` where there is room.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [min(max(places[i], low), high) for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    ceiling = high
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    result = [0.0] * len(places)
    for place, i in zip(moved, order, strict=True):
        result[i] = place
    return result


def ranked(board: Board) -> list[Row]:
    """The ranked rows, best first."""
    return [row for row in board.rows if row.state == "ranked"]


def curve(row: Row, board: Board) -> list[CurvePoint]:
    """A row's C@k in the reading of the ranking."""
    return (row.strict if board.ranking.reading == "strict" else row.refused).curve


def value_at(row: Row, board: Board, k: int) -> str:
    """C@k of a row in figures."""
    return decimals(next((p.value for p in curve(row, board) if p.k == k), None))


def headline(row: Row) -> str:
    """The headline with its interval in figures."""
    return f"{decimals(row.headline.value)} {interval(row.headline.low, row.headline.high)}".strip()


def models(rows: Sequence[object]) -> str:
    """The noun in the right number."""
    return "model" if len(rows) == 1 else "models"


def marks_of(values: list[dict[str, Any]]) -> alt.Chart:
    """A layer over these values, which are written into the specification."""
    return alt.Chart(alt.InlineData(values=values))


def share_y(field: str, title: str) -> alt.Y:
    """The upright axis from 0 to 1."""
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1])).axis(values=_QUARTERS, format=".2f")


def share_x(field: str, title: str, orient: Literal["top", "bottom"] = "bottom") -> alt.X:
    """The level axis from 0 to 1."""
    axis = alt.Axis(values=_QUARTERS, format=".2f", orient=orient)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def colour() -> alt.Color:
    """The architecture's colour."""
    domain = list(ARCHITECTURES)
    return alt.Color("arch:N", legend=None, scale=alt.Scale(domain=domain, range=[LIGHT[MARKS[a][0]] for a in domain]))


def shape() -> alt.Shape:
    """The architecture's shape."""
    domain = list(ARCHITECTURES)
    return alt.Shape("arch:N", legend=None, scale=alt.Scale(domain=domain, range=[MARKS[a][1] for a in domain]))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times powers of ten) within a range; powers alone where those are more than seven."""
    powers = [10.0**e for e in range(5, 15)]
    fine = [p * step for p in powers for step in (1, 2, 5) if low <= p * step <= high]
    return fine if len(fine) <= 7 else [p for p in powers if low <= p <= high]


def beside(values: Sequence[dict[str, Any]], along: Sequence[float], width: int, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Names of points on a plane from 0 to 1 upwards: right, left or above, where fewest things are in the way.

    Args:
        values: with ``y``, ``label`` and the fields of the axes.
        along: where each point is between the plane's left (0) and right (1) edge.
        width: of the plane in pixels.
        x: the level axis.
        y: the upright axis.
    """

    def taken(i: int, place: _Place) -> float:
        reach = label_room([values[i]["label"]]) / width
        low, high = along[i] + reach * place.start, along[i] + reach * (place.start + 1)
        level = values[i]["y"] + place.lift
        others = [j for j in range(len(values)) if abs(values[j]["y"] - level) < 0.03 and along[j] != along[i]]
        return place.cost + sum(low < along[j] < high for j in others) + 2 * (low < 0 or high > 1 or level > 1)

    chosen = [min(_PLACES, key=lambda place: taken(i, place)) for i in range(len(values))]
    layers = []
    for place in _PLACES:
        part = [v for v, one in zip(values, chosen, strict=True) if one is place]
        heights = spread([v["y"] + place.lift for v in part], 0.05, 0.0, 1.0)
        placed = [{**v, "y": height} for v, height in zip(part, heights, strict=True)]
        text = marks_of(placed).mark_text(align=place.align, dx=place.shift, fontSize=12)
        layers.append(text.encode(x, y, colour(), text="label:N"))
    return layers


def label_room(names: Sequence[str]) -> int:
    """Pixels that the longest of these names takes beside a plane."""
    return max((round(6.8 * len(name)) for name in names), default=0) + 12


def finish(layers: Sequence[alt.Chart], width: int, height: int) -> dict[str, Any]:
    """Layers on one plane of this size in the project's look."""
    chart = alt.layer(*layers).properties(width=width, height=height, padding=6)
    chart = chart.configure(background=LIGHT["paper"], font="sans-serif", aria=True).configure_view(stroke=None)
    chart = chart.configure_axis(
        labelColor=LIGHT["muted"],
        titleColor=LIGHT["ink"],
        gridColor=LIGHT["rule"],
        domainColor=LIGHT["edge"],
        tickColor=LIGHT["edge"],
        labelFontSize=_AXIS - 1,
        titleFontSize=_AXIS,
        titleFontWeight="normal",
        titlePadding=8,
        gridOpacity=0.7,
    )
    spec: dict[str, Any] = chart.to_dict()
    return spec
