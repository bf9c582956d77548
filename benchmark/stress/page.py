"""A chart and a self-contained page of one model's result."""

from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert as vlc

from ..files import write_text

__all__ = ["chart_svg", "page_html", "write_page"]

_TITLES = {
    "S1": "dense direction",
    "S2": "routing-aware",
    "S3": "expert-specific",
    "S4": "single expert",
    "S5": "where it lives",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.3rem .7rem;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}
td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.no{color:#8a4b00}svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}th,td{border-color:#444}.no{color:#ffb454}figure{background:#fff}}
""".strip()


def chart_svg(result: dict[str, Any]) -> str:
    """Refusal rate against dose, a line per published system, with intervals; as SVG."""
    rows = [
        {
            "system": f"{name} {_TITLES[name]}",
            "dose": point["dose"],
            "rate": point["refusal_rate"]["value"],
            "low": point["refusal_rate"]["low"],
            "high": point["refusal_rate"]["high"],
        }
        for name, entry in result["systems"].items()
        if entry["figures"] and "curve" in entry["figures"]
        for point in entry["figures"]["curve"]
        if point["refusal_rate"]["value"] is not None
    ]
    table = pd.DataFrame(rows, columns=["system", "dose", "rate", "low", "high"])
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2, symbolSize=400)
    base = alt.Chart(table).encode(
        x=alt.X("dose:Q", title="dose: norm of the change over norm of the activation"),
        color=alt.Color("system:N", title="system", legend=legend),
    )
    y = alt.Y("rate:Q", title="refusal rate on harmful prompts", scale=alt.Scale(domain=[0, 1]))
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title="refusal rate on harmful prompts"), y2="high:Q")
    line = base.mark_line(point=True).encode(y=y, strokeDash=alt.StrokeDash("system:N", legend=None))
    chart = (band + line).properties(width=560, height=300, title=f"{result['model']['name']}: refusal under steering")
    svg: str = vlc.vegalite_to_svg(chart.to_json())
    return svg


def write_page(folder: Path, result: dict[str, Any]) -> Path:
    """Write ``stress.svg`` and ``index.html`` into the folder; the page holds the chart and needs no other file."""
    svg = chart_svg(result)
    write_text(folder / "stress.svg", svg)
    page = folder / "index.html"
    write_text(page, page_html(result, svg))
    return page


def page_html(result: dict[str, Any], svg: str) -> str:
    """The page."""
    model, plain = result["model"], result["unsteered"]
    experts = f", {model['experts']} experts a layer" if model["experts"] else ""
    parts = [
        f"<h1>Stress test: {escape(model['name'])}</h1>",
        f"<p>{escape(model['family'])}, {model['architecture']}, {model['layers']} layers{experts}. Unsteered it "
        f"refuses {_percent(plain['refusal_rate'])} of the harmful and {_percent(plain['over_refusal_rate'])} of the "
        f"benign test prompts ({plain['test_pairs']} pairs, {plain['unscored']} answers unscored). Judge: "
        f"{escape(result['provenance']['judge'])}. Budget {escape(result['plan']['budget'])}.</p>",
        f"<figure>{svg}</figure>",
        _systems_table(result),
        _parts_table(result),
        _experts_text(result),
        "<p>Figures only: no response, direction or altered weight of a stress test is ever stored.</p>",
    ]
    title = escape(f"Stress test: {model['name']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _systems_table(result: dict[str, Any]) -> str:
    rows = []
    for name, entry in result["systems"].items():
        controls = entry["controls"]
        real = _interval(controls["real"]["answered"]) if controls else ""
        others = "; ".join(
            f"{arm.replace('_', ' ')} {_interval(figures['answered'])}"
            for arm, figures in controls.items()
            if arm != "real"
        )
        curves = entry["figures"] if entry["figures"] and "curve" in entry["figures"] else None
        half = _number(curves["dose_50"]["value"]) if curves else ""
        area = _interval(curves["area"]) if curves else ""
        state = "yes" if entry["published"] else f'<span class="no">no: {escape(entry["reason"])}</span>'
        cells = [f"<td>{name} {_TITLES[name]}</td>", *(f'<td class="n">{x}</td>' for x in (real, half, area))]
        rows.append(f"<tr>{''.join(cells)}<td>{others}</td><td>{state}</td></tr>")
    head = "".join(
        f"<th>{text}</th>"
        for text in ("system", "more harmful prompts answered", "dose_50", "area", "controls", "published")
    )
    return f"<h2>Systems</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _parts_table(result: dict[str, Any]) -> str:
    entry = result["systems"].get("S5")
    if not entry or not entry["figures"]:
        return ""
    figures = entry["figures"]["log_odds"]
    if figures["shares"] is None:
        return f"<h2>Where it lives</h2><p>{escape(figures['reason'])}</p>"
    rows = "".join(
        f'<tr><td>{name.replace("_", " ")}</td><td class="n">{_interval(share)}</td>'
        f'<td class="n">{_interval(figures["alone"][name])}</td></tr>'
        for name, share in figures["shares"].items()
    )
    return (
        "<h2>Where it lives</h2><table><tr><th>part</th><th>share of the effect</th><th>alone, nats</th></tr>"
        f"{rows}</table><p>Together {_interval(figures['joint'])} nats, "
        f"interaction {_interval(figures['interaction'])}.</p>"
    )


def _experts_text(result: dict[str, Any]) -> str:
    found, share = result["experts"], result["single_expert_share"]
    if not found:
        return ""
    single = _interval(share) if share["value"] is not None else escape(share["reason"])
    # A share may come of silence or of an added direction, and only silence says that the expert carries refusal.
    edits = sorted({choice["candidate"] for choice in result["systems"].get("S4", {}).get("chosen", [])})
    reached = f", reached by {escape('; '.join(edits))}" if edits and share["value"] is not None else ""
    largest = found["largest"]
    return (
        f"<h2>Experts</h2><p>Of {found['experts']} experts silenced one by one, the largest lowers refusal log-odds "
        f"by {_number(largest['log_odds_drop'])} nats ({escape(largest['place'])}), the next by "
        f"{_number(found['next'])}. Concentration (Gini) {_interval(found['concentration'])}; correlation of routing "
        f"difference and effect {_interval(found['routing_correlation'])}. Single-expert share: {single}{reached}.</p>"
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(entry: dict[str, Any]) -> str:
    if entry["value"] is None:
        return "–"
    if entry["low"] is None:
        return f"{entry['value']:.2f}"
    return f"{entry['value']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
