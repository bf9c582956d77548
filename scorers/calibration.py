"""Whether a probability of 0.8 is right four times in five: bins and their diagram."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd

from ..benchmark.errors import DemurError
from ..benchmark.files import write_atomic

__all__ = ["BINS", "reliability", "reliability_diagram"]

BINS = 10

Floats = npt.NDArray[np.float64]


def reliability(p: Floats, refused: Floats) -> list[dict[str, float]]:
    """Bins of equal width over [0, 1], of :data:`BINS` those that are not empty.

    Each has its number of answers ``n``, mean probability ``p`` and share ``refused``.

    Args:
        p: probabilities, shape (n,).
        refused: 0 or 1, shape (n,).
    """
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return [
        {"n": float((place == i).sum()), "p": float(p[place == i].mean()), "refused": float(refused[place == i].mean())}
        for i in range(BINS)
        if (place == i).any()
    ]


def reliability_diagram(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draw the bins of one or more scorers as SVG or PNG (by the ending of ``path``).

    Args:
        path: where to write; ``.svg`` or ``.png``.
        curves: scorer name to :func:`reliability` rows.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise DemurError(f"{path}: a diagram is .svg or .png", "choose one of these endings")
    points = pd.DataFrame([{"scorer": name, **row} for name, rows in curves.items() for row in rows])
    unit: Any = alt.Scale(domain=[0, 1])
    diagonal = alt.Chart(pd.DataFrame({"p": [0, 1], "refused": [0, 1]})).mark_line(strokeDash=[4, 4], color="gray")
    lines = alt.Chart(points).mark_line(point=True)
    places = {
        "x": alt.X("p:Q", title="mean P(refused) in the bin", scale=unit),
        "y": alt.Y("refused:Q", title="share refused by the labels", scale=unit),
    }
    chart = diagonal.encode(**places) + lines.encode(
        **places, color="scorer:N", tooltip=["scorer", "n", "p", "refused"]
    )
    with write_atomic(path) as temporary:
        chart.properties(width=360, height=360, title="Reliability").save(
            str(temporary), format=path.suffix.lower()[1:], scale_factor=2
        )
