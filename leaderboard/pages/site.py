"""The leaderboard's site: one page that holds everything, beside it the downloads and the charts as files.

``docs/decisions`` says why it is one page and how its Content-Security-Policy works.
"""

import base64
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ...benchmark.errors import DemurError
from ...benchmark.files import write_atomic, write_json, write_parquet, write_text
from ..board import Board, Estimate, as_json
from . import svg
from .charts import Chart, draw_charts
from .columns import RATES, SIDES
from .data import data_block, page_data, shared
from .downloads import as_csv, as_parquet
from .methods import methods_html
from .palette import LIGHT, css_variables
from .papers import as_latex, bibtex
from .text import ARCHITECTURES, READINGS, decimals, encodable, interval, parameters
from .tracks import track_tables

__all__ = ["FILES", "build_site"]

SCRIPTS = ("base.js", "tables.js", "draw.js", "pdf.js", "stress.js", "model.js", "compare.js", "main.js")
FILES = {
    "downloads/board.csv": "Every row with all figures and intervals; one line a submission.",
    "downloads/board.json": "The board as the programs exchange it (JSON Schema in the package: board.json).",
    "downloads/board.parquet": "The columns of the CSV with their types.",
    "downloads/board.tex": "The ranking as a LaTeX table (booktabs, longtable).",
    "downloads/demur.bib": "BibTeX of the benchmark, of this board and of the scorer.",
}
_TALL = 600
_SHOWN = ("ranked", "listed", "apart")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="5" fill="#1c1b19"/>'
    '<path d="M7 10h18M7 16h18M7 22h18" stroke="#5b5852" stroke-width="2"/>'
    '<circle cx="21" cy="10" r="3.4" fill="#7fb0f5"/><path d="m14 12 4 4-4 4-4-4Z" fill="#f09a5c"/>'
    '<circle cx="11" cy="22" r="3.4" fill="#7fb0f5"/></svg>'
)
_README = """---
title: Demur leaderboard
emoji: ⚖️
colorFrom: gray
colorTo: blue
sdk: static
app_file: index.html
pinned: false
license: apache-2.0
short_description: Refusal consistency of language models, MoE and dense
---

The leaderboard of Demur, a benchmark of refusal consistency. Everything is in `index.html`, which also works when it is
opened from a folder; `downloads/` and `charts/` hold the same figures as files.
"""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A chart as the page shows it."""

    name: str
    title: str
    description: str
    svg: Markup
    tall: bool


def build_site(board: Board, out: Path) -> Path:
    """Write the site of a board into a folder: open ``index.html``, or push the folder as a static Hub Space.

    Files of an earlier site in the folder are replaced, other files are left alone. The page is written last, so a
    folder whose ``index.html`` is new is whole.

    Args:
        board: what to show.
        out: the folder; made where it is missing.

    Returns:
        The path of ``index.html``.

    Raises:
        DemurError: ``out`` is a file or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise DemurError(f"{out}: is a file, not a folder", "choose another place for the site")
    charts = draw_charts(board)
    pictures = {chart.name: svg.standalone(chart.spec) for chart in charts}
    page = _page(board, charts, pictures)
    with _folder(out / "charts") as folder:
        for name, picture in pictures.items():
            write_text(folder / f"{name}.svg", picture)
            with write_atomic(folder / f"{name}.pdf") as temporary:
                temporary.write_bytes(svg.pdf(picture))
    write_text(out / "downloads/board.csv", as_csv(board))
    write_json(out / "downloads/board.json", encodable(as_json(board)))
    write_parquet(out / "downloads/board.parquet", as_parquet(board))
    write_text(out / "downloads/board.tex", as_latex(board))
    write_text(out / "downloads/demur.bib", bibtex(board))
    write_text(out / "README.md", _README)
    index = out / "index.html"
    write_text(index, encodable(page))
    return index


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """Give a new folder that takes the place of ``path`` when it is filled: charts that are no more go with the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield fresh
        fresh.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        fresh.replace(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _page(board: Board, charts: list[Chart], pictures: dict[str, str]) -> str:
    data = page_data(board)
    style, script = _style(), _script()
    states: dict[str, list[dict[str, Any]]] = {}
    for row in data["rows"]:
        states.setdefault(row["state"], []).append(row)
    longest = max((len(row["refused"]["curve"]) for row in data["rows"]), default=0)
    resolution = board.ranking.resolution
    return (
        _templates()
        .get_template("page.html")
        .render(
            board=board,
            k=board.ranking.k,
            ks=list(range(1, longest + 1)),
            times={4: "four times"}.get(board.ranking.k, f"{board.ranking.k} times"),
            confidence=f"{100 * board.ranking.confidence:g}",
            floor=f"{100 * board.ranking.coverage_floor:g}",
            resolution=decimals(resolution.difference) if resolution else "",
            facts=_facts(board),
            views=_views(board),
            rates=RATES,
            sides=tuple(one for one in SIDES if one.ranked),
            architectures=ARCHITECTURES,
            readings=READINGS,
            ranked=states.get("ranked", []),
            listed=states.get("listed", []),
            apart=states.get("apart", []),
            past=states.get("superseded", []) + states.get("withdrawn", []),
            stressed=[_named(row) for row in data["rows"] if row["stress"] and row["state"] in _SHOWN],
            by_id={row["id"]: row for row in data["rows"]},
            data_hazards=data["hazards"],
            figures=[_inline(chart, pictures[chart.name], board) for chart in charts if chart.inline],
            all_charts=charts,
            tracks=track_tables(board.external),
            methods=methods_html(),
            files=FILES.items(),
            bibtex=bibtex(board),
            data=data_block(shared(data) | {"palette": dict(LIGHT)}),
            style=Markup(style),  # the package's own files
            script=Markup(script),
            icon="data:image/svg+xml;base64," + base64.b64encode(_ICON.encode()).decode(),
            policy=_policy(style, script),
        )
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("demur.leaderboard.pages", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {
        "num": decimals,
        "span": interval,
        "size": parameters,
        "lowest_coverage": _lowest_coverage,
        "verdict": _verdict,
    }
    return environment


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, sent or framed; of inline code only these two texts; no string becomes markup."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _asset(name: str) -> str:
    return files("demur.leaderboard.pages").joinpath("assets", name).read_text(encoding="utf-8")


def _style() -> str:
    return css_variables() + _asset("style.css")


def _script() -> str:
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def _inline(chart: Chart, picture: str, board: Board) -> _Figure:
    markup = svg.within_page(picture, chart.name, {row.id: at for at, row in enumerate(board.rows)})
    return _Figure(
        chart.name,
        chart.title,
        chart.description,
        Markup(markup),  # written by an XML serialiser, which escapes every text in it
        float(chart.spec.get("height", 0)) > _TALL,
    )


def _facts(board: Board) -> str:
    ranked = sum(row.state == "ranked" for row in board.rows)
    said = [f"{ranked} {'model' if ranked == 1 else 'models'} ranked"]
    if board.prompts:
        part = f", {board.prompts.selection.name}" if board.prompts.selection else ""
        said.append(f"{board.prompts.pairs} pairs ({board.prompts.split} split {board.prompts.version}{part})")
    if board.setting:
        setting = board.setting
        said.append(
            f"{len(setting.variants)} variants × {setting.samples} samples at temperature {setting.temperature:g}"
        )
    if board.scorer:
        said.append(f"scorer {board.scorer.name} {board.scorer.version}")
    return " · ".join([*said, board.made_at[:10]])


def _views(board: Board) -> list[tuple[str, str]]:
    others = [("others", "Others' labels")] if board.external else []
    stressed = any(row.stress is not None and row.state in _SHOWN for row in board.rows)
    return [
        ("ranking", "Ranking"),
        ("charts", "Charts"),
        ("architectures", "MoE against dense"),
        ("hazards", "Hazards"),
        *([("stress", "Stress test")] if stressed else []),
        ("compare", "Compare"),
        *others,
        ("methods", "Methods"),
        ("downloads", "Downloads"),
    ]


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the page's data with the figures of its stress test by name."""
    found = {figure[0]: figure for figure in row["stress"]["figures"]}
    for system, _reason, figures, _controls, _curve in row["stress"]["systems"]:
        found |= {f"{system} {figure[0]}": figure for figure in figures}
    return {**row, "stress": {**row["stress"], "by_name": found}}


def _lowest_coverage(row: dict[str, Any]) -> float | None:
    shares = [share for side in ("harmful", "benign") if (share := row["coverage"][side][2]) is not None]
    return min(shares, default=None)


def _verdict(difference: Estimate) -> str:
    if difference.value is None or difference.low is None or difference.high is None:
        return "no result"
    if difference.low > 0:
        return "MoE is more consistent"
    return "dense is more consistent" if difference.high < 0 else "no difference can be told"
