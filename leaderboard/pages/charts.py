"""The charts of a board as Vega-Lite specifications, each with its description in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import altair as alt

from ...benchmark.errors import DemurError, raise_all
from ..board import Board
from .chart_parts import (
    LABELLED,
    WIDTH,
    Chart,
    beside,
    colour,
    curve,
    finish,
    headline,
    label_room,
    marks_of,
    models,
    ranked,
    shape,
    share_x,
    share_y,
    spread,
    ticks,
    value_at,
)
from .palette import LIGHT
from .text import plain, shorten

__all__ = ["CHARTS", "Chart", "draw_charts", "one_chart"]


def draw_charts(board: Board) -> list[Chart]:
    """Every chart that the board has data for."""
    return [chart for make in CHARTS if (chart := make(board)) is not None]


def one_chart(board: Board, name: str, models: Sequence[str] = ()) -> Chart:
    """One chart, of all ranked models or of some.

    Args:
        board: where the figures stand.
        name: of the chart.
        models: model ids or submission ids; all ranked ones where none is given.

    Raises:
        DemurError: no such model among the ranked ones, or no such chart of them.
    """
    rows = ranked(board)
    known = {row.id for row in rows} | {row.model.id for row in rows}
    raise_all("the board", (f"no ranked model {name!r}" for name in models if name not in known), "see the ranking")
    if models:
        kept = {row.id for row in rows if not {row.id, row.model.id}.isdisjoint(models)}
        pairs = [pair for pair in board.contrasts.pairs if {pair.moe, pair.dense} <= kept]
        groups = [left for group in board.tie_groups if (left := [row for row in group if row in kept])]
        board = replace(
            board,
            rows=[row for row in rows if row.id in kept],
            contrasts=replace(board.contrasts, pairs=pairs),
            tie_groups=groups,
        )
    charts = {chart.name: chart for chart in draw_charts(board)}
    if name not in charts:
        there = ", ".join(charts) or "none: no model is ranked"
        raise DemurError(f"no chart {name!r} of these models", f"there are {there}")
    return charts[name]


def _curves(board: Board) -> Chart | None:
    rows = ranked(board)
    points: list[dict[str, Any]] = [
        {"row": r.id, "k": p.k, "c": p.value, "low": p.low, "high": p.high, "arch": r.model.architecture}
        for r in rows
        for p in curve(r, board)
        if p.value is not None
    ]
    if not points:
        return None
    last = max(p["k"] for p in points)
    few = len(rows) <= LABELLED
    named = rows if few else rows[:3]
    ends = [(r, [p for p in curve(r, board) if p.value is not None][-1]) for r in named]
    heights = spread([float(end.value or 0) for _, end in ends], 0.045, 0.0, 1.0)
    labels = [
        {"k": last, "c": height, "label": shorten(r.model.id, 24), "arch": r.model.architecture}
        for (r, _), height in zip(ends, heights, strict=True)
    ]
    x = alt.X("k:Q", title="k: how many times in a row", scale=alt.Scale(domain=[1, last], nice=False)).axis(
        values=list(range(1, last + 1)), format="d"
    )
    y = share_y("c", "C@k")
    layers: list[alt.Chart] = []
    if len(rows) <= 4:
        band = marks_of([p for p in points if p["low"] is not None]).mark_area(opacity=0.13)
        layers.append(band.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour(), alt.Detail("row:N")))
    nulls = [{"name": ref.name, "k": p.k, "c": p.value} for ref in board.references for p in ref.curve if p.k <= last]
    if nulls:
        grey = marks_of(nulls).mark_line(strokeDash=[3, 3], color=LIGHT["edge"], strokeWidth=1.2)
        layers.append(grey.encode(x, y, alt.Detail("name:N")))
    lines = marks_of(points).mark_line(strokeWidth=2 if few else 1.2, opacity=1 if few else 0.45)
    layers.append(lines.encode(x, y, colour(), alt.Detail("row:N"), alt.Description("row:N")))
    text = marks_of(labels).mark_text(align="left", dx=7, fontSize=12, clip=False)
    layers.append(text.encode(x, y, text="label:N", color=colour()))
    best, worst = rows[0], rows[-1]
    words = (
        f"C@k of {len(rows)} ranked {models(rows)}: the chance of getting an intent and its benign twin right "
        f"k times in a row, which cannot rise with k. {plain(best.model.id)} goes from {value_at(best, board, 1)} "
        f"at k = 1 to {value_at(best, board, last)} at k = {last}"
        + (
            f", {plain(worst.model.id)} from {value_at(worst, board, 1)} to {value_at(worst, board, last)}. "
            if worst != best
            else ". "
        )
        + ("Bands are 95 % intervals. " if len(rows) <= 4 else "")
        + ("Every line has its name at the end. " if few else "The three leading models have their names. ")
        + ("Dashed grey lines are the null models." if nulls else "")
    )
    room = label_room([str(label["label"]) for label in labels])
    return Chart("curves", "C@k: right k times in a row", words.strip(), finish(layers, WIDTH - 40 - room, 300))


def _intervals(board: Board) -> Chart | None:
    rows = [r for r in ranked(board) if r.headline.value is not None]
    if not rows:
        return None
    k = board.ranking.k
    values = [
        {
            "row": r.id,
            "place": i,
            "label": shorten(r.model.id),
            "c": r.headline.value,
            "low": r.headline.low if r.headline.low is not None else r.headline.value,
            "high": r.headline.high if r.headline.high is not None else r.headline.value,
            "arch": r.model.architecture,
            "band": (r.tie_group or 0) % 2,
        }
        for i, r in enumerate(rows)
    ]
    step = 26 if len(rows) <= 20 else 17
    room = label_room([str(v["label"]) for v in values])
    y = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0.2))
    title = f"C@{k} with 95 % interval"
    side: Literal["top", "bottom"] = "top" if len(rows) > 20 else "bottom"
    x, low = share_x("c", title, side), share_x("low", title, side)
    base = marks_of(values)
    stripes = (
        base.transform_filter("datum.band == 1")
        .mark_rect(color=LIGHT["raised"])
        .encode(y, x=alt.value(-room), x2=alt.value(WIDTH - room))
    )
    whiskers = base.mark_rule(strokeWidth=1.6).encode(low, y, alt.X2("high:Q"), colour())
    dots = base.mark_point(filled=True, size=62, opacity=1).encode(x, y, colour(), shape(), alt.Description("row:N"))
    names = base.mark_text(align="right", fontSize=12, color=LIGHT["ink"], clip=False).encode(
        y, x=alt.value(-10), text="label:N"
    )
    groups = len(board.tie_groups)
    words = (
        f"C@{k} of {len(rows)} ranked {models(rows)} with 95 % intervals, in order of rank. Highest: "
        f"{plain(rows[0].model.id)}, {headline(rows[0])}"
        + (f"; lowest: {plain(rows[-1].model.id)}, {headline(rows[-1])}" if len(rows) > 1 else "")
        + f". {groups} tie group{'s' if groups != 1 else ''}, told apart by the shading behind the names."
    )
    spec = finish([stripes, whiskers, dots, names], WIDTH - room, step * len(rows))
    return Chart("intervals", f"C@{k} and its uncertainty", words, spec)


def _plane(board: Board) -> Chart | None:
    values: list[dict[str, Any]] = [
        {
            "row": r.id,
            "x": r.refused.over_refusal_rate.value,
            "y": r.refused.refusal_rate.value,
            "arch": r.model.architecture,
            "label": shorten(r.model.id, 22),
        }
        for r in ranked(board)
        if r.refused.over_refusal_rate.value is not None and r.refused.refusal_rate.value is not None
    ]
    if not values:
        return None
    x = share_x("x", "refused on the benign side (over-refusal)")
    y = share_y("y", "refused on the harmful side")
    slopes = [{"x": x0, "y": y0, "line": j} for j in (0.0, 0.25, 0.5, 0.75) for x0, y0 in ((0.0, j), (1.0 - j, 1.0))]
    marks = [{"x": 1.0 - j, "y": 1.0, "label": f"J = {j:g}"} for j in (0.0, 0.25, 0.5, 0.75)]
    layers: list[alt.Chart] = [
        marks_of(slopes).mark_line(color=LIGHT["rule"], strokeWidth=1.2).encode(x, y, alt.Detail("line:N")),
        marks_of(marks).mark_text(dy=-10, fontSize=11, color=LIGHT["muted"]).encode(x, y, text="label:N"),
    ]
    nulls = [{"x": ref.over_refusal_rate, "y": ref.refusal_rate} for ref in board.references]
    if nulls:
        layers.append(
            marks_of(nulls).mark_point(shape="cross", filled=True, size=70, color=LIGHT["edge"], opacity=1).encode(x, y)
        )
    dots = marks_of(values).mark_point(filled=True, size=85 if len(values) <= 40 else 45, opacity=0.85)
    layers.append(dots.encode(x, y, colour(), shape(), alt.Description("row:N")))
    if len(values) <= LABELLED:
        layers += beside(values, [v["x"] for v in values], WIDTH - 60, x, y)
    words = (
        f"{len(values)} ranked {models(values)} by refusal rate on the harmful side (up is better) and on the benign "
        "side (left is better). The best corner is the upper left; slanting lines join equal values of Youden's J, the "
        "first minus the second. "
        + ("Grey crosses are the null models. " if nulls else "")
        + "The ranking table has the same figures."
    )
    return Chart("plane", "Refusal against over-refusal", words, finish(layers, WIDTH - 60, 340))


def _architectures(board: Board) -> Chart | None:
    k = board.ranking.k
    rows = [r for r in ranked(board) if r.model.active_parameters and r.headline.value is not None]
    rows = [r for r in rows if r.model.architecture != "undisclosed"]
    if not rows:
        return None
    place = {r.id: (r.model.active_parameters, r.headline.value) for r in rows}
    active = [r.model.active_parameters or 1 for r in rows]
    low, high = min(active) / 2.4, max(active) * 2.4
    x = alt.X(
        "x:Q",
        title="active parameters (logarithmic)",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
    ).axis(values=ticks(low, high), labelExpr="replace(format(datum.value, '~s'), 'G', 'B')")
    y = share_y("y", f"C@{k}")
    links = [
        {"link": i, "x": place[row][0], "y": place[row][1]}
        for i, pair in enumerate(board.contrasts.pairs)
        for row in (pair.moe, pair.dense)
        if pair.moe in place and pair.dense in place
    ]
    values = [
        {
            "row": r.id,
            "x": place[r.id][0],
            "y": place[r.id][1],
            "arch": r.model.architecture,
            "label": shorten(r.model.id, 20),
        }
        for r in rows
    ]
    layers: list[alt.Chart] = []
    if links:
        layers.append(
            marks_of(links).mark_line(color=LIGHT["edge"], strokeWidth=1.3).encode(x, y, alt.Detail("link:N"))
        )
    dots = marks_of(values).mark_point(filled=True, size=85 if len(values) <= 40 else 45, opacity=0.85)
    layers.append(dots.encode(x, y, colour(), shape(), alt.Description("row:N")))
    if len(values) <= LABELLED:
        along = [math.log(a / low) / math.log(high / low) for a in active]
        layers += beside(values, along, WIDTH - 60, x, y)
    pairs = len(board.contrasts.pairs)
    words = (
        f"C@{k} against active parameters for {len(rows)} ranked {models(rows)} that disclose them. "
        + (
            f"Grey lines join the {pairs} matched pair{'s' if pairs != 1 else ''} of the table below. "
            if links
            else "There is no matched pair. "
        )
        + "Unmatched models differ in more than architecture: compare along the lines only."
    )
    return Chart("architectures", "Active parameters and C@" + str(k), words, finish(layers, WIDTH - 60, 300))


def _heat(board: Board) -> Chart | None:
    rows = ranked(board)
    hazards = board.prompts.hazards if board.prompts else []
    values = [
        {"place": i, "label": shorten(r.model.id), "hazard": h.hazard.replace("_", " "), "c": h.headline.value}
        for i, r in enumerate(rows)
        for h in r.hazards
        if h.headline.value is not None and h.hazard in hazards
    ]
    if not values:
        return None
    step = 22 if len(rows) <= 40 else 15
    order = [hazard.replace("_", " ") for hazard in hazards]
    x = alt.X("hazard:N", sort=order, title=None).axis(
        orient="top", labelAngle=-40, labelLimit=200, domain=False, ticks=False
    )
    y = alt.Y("place:O", axis=None)
    colour = alt.Color("c:Q", title=f"C@{board.ranking.k}", scale=alt.Scale(domain=[0, 1], scheme="blues"))
    base = marks_of(values)
    cells = base.mark_rect().encode(x, y, colour)
    figures = base.mark_text(fontSize=9.5).encode(
        x,
        y,
        text=alt.Text("c:Q", format=".2f"),
        color=alt.condition("datum.c > 0.55", alt.value("#ffffff"), alt.value(LIGHT["ink"])),
    )
    names = marks_of([{"place": i, "label": shorten(r.model.id)} for i, r in enumerate(rows)])
    labels = names.mark_text(align="right", fontSize=12, color=LIGHT["ink"], clip=False).encode(
        y, x=alt.value(-8), text="label:N"
    )
    words = f"C@{board.ranking.k} of {len(rows)} ranked {models(rows)} in each of {len(hazards)} hazards."
    spec = finish([cells, figures, labels], 42 * len(order), step * len(rows))
    return Chart("hazards", f"C@{board.ranking.k} by hazard", words, spec, inline=False)


CHARTS: tuple[Callable[[Board], Chart | None], ...] = (_curves, _plane, _intervals, _architectures, _heat)
