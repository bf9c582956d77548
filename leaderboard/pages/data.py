"""The data that the page's script reads: the board without what no view shows, small and safe inside HTML."""

import json
from operator import attrgetter
from typing import Any

from markupsafe import Markup

from ...benchmark.taxonomy import hazards
from ..board import Board, BySide, CurvePoint, Estimate, HazardFigures, ReadingFigures, Row, Shares, SideCoverage
from ..stress import StressFigure, StressReport
from .columns import RATES, SIDES
from .text import plain, shown

__all__ = ["data_block", "hazard_titles", "page_data", "shared"]

_COMMON = ("prompts", "scorer", "setting", "variants", "package", "backend", "dtype", "archSource")


def page_data(board: Board) -> dict[str, Any]:
    """The board for the script: estimates are ``[value, low, high]``, sides ``[all, harmful, benign]``.

    Percentile intervals are left out; the downloads have them. Submitters' texts lose control and format characters,
    with which a name could look like another one.
    """
    order = board.prompts.hazards if board.prompts else []
    return {
        "k": board.ranking.k,
        "reading": board.ranking.reading,
        "resolution": _number(board.ranking.resolution.difference) if board.ranking.resolution else None,
        "floor": board.ranking.coverage_floor,
        "rates": [[rate.key, rate.title, rate.high] for rate in RATES],
        "sides": [[one.key, one.title, one.high] for one in SIDES],
        "hazards": [[hazard, title] for hazard, title in hazard_titles(order).items()],
        "rows": [_row(row, order, board.ranking.k) for row in board.rows],
    }


def shared(data: dict[str, Any]) -> dict[str, Any]:
    """The same data with what many rows have in common written once: a row holds the place in ``common``."""
    common: dict[str, list[Any]] = {key: [] for key in _COMMON}
    words: dict[str, int] = {}
    rows = []
    for row in data["rows"]:
        lean = dict(row)
        if row["stress"]:
            lean["stress"] = _numbered(row["stress"], words)
        for key, known in common.items():
            if row[key] not in known:
                known.append(row[key])
            lean[key] = known.index(row[key])
        rows.append(lean)
    return {**data, "rows": rows, "common": common, "words": list(words)}


def hazard_titles(ids: list[str]) -> dict[str, str]:
    """Hazards by id with the taxonomy's titles; an id that this version does not know keeps its own name."""
    known = hazards()
    return {hazard: known[hazard].title if hazard in known else hazard.replace("_", " ") for hazard in ids}


def data_block(data: dict[str, Any]) -> Markup:
    """JSON that may stand in a ``script`` element: no character in it can end the element or a line of script."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _row(row: Row, order: list[str], k: int) -> dict[str, Any]:
    model, setting, prompts = row.model, row.setting, row.prompts
    by_hazard = {figures.hazard: figures for figures in row.hazards}
    return {
        "id": row.id,
        "name": plain(model.id).strip() or "?",
        "state": row.state,
        "why": plain(row.why) if row.why else None,
        "tier": row.tier,
        "at": row.created_at,
        "package": plain(row.package_version),
        "notes": "\n".join(plain(line) for line in row.notes.splitlines()),
        "arch": model.architecture,
        "archSource": model.architecture_source,
        "active": model.active_parameters,
        "total": model.total_parameters,
        "experts": model.experts,
        "perToken": model.experts_per_token,
        "maker": plain(model.maker),
        "base": plain(model.base_model) if model.base_model else None,
        "upcycled": plain(model.upcycled_from) if model.upcycled_from else None,
        "formerly": [plain(name) for name in model.formerly],
        "revision": plain(model.revision),
        "dtype": plain(model.dtype),
        "backend": plain(model.backend),
        "setting": [setting.temperature, setting.top_p, setting.max_new_tokens, setting.seed, setting.samples],
        "variants": setting.variants,
        "scorer": [row.scorer.name, row.scorer.version, row.scorer.hash],
        "prompts": [
            prompts.split,
            prompts.version,
            prompts.hash,
            prompts.selection.name if prompts.selection else None,
        ],
        "rank": row.rank,
        "set": row.rank_set,
        "tie": row.tie_group,
        "refused": _reading(row.refused, k),
        "strict": _reading(row.strict, k),
        "soft": [_number(row.soft.value), _number(row.soft.difference), row.soft.flag] if row.soft else None,
        "corrected": _corrected(row),
        "stability": [row.stability.prompts, *map(_number, _stability(row))],
        "coverage": {"harmful": _covered(row.coverage.harmful), "benign": _covered(row.coverage.benign)},
        "hazards": [_hazard(by_hazard.get(hazard)) for hazard in order],
        "stress": _stress(row.stress),
        "rescored": [row.rescored.same, row.rescored.rows, row.rescored.submitted.name, row.rescored.submitted.version]
        if row.rescored
        else None,
        "others": [
            [
                one.scorer.name,
                one.scorer.version,
                *([part.n, *map(shown, (part.same, part.kappa, part.alpha))] for part in (one.harmful, one.benign)),
            ]
            for one in row.agreement
        ],
    }


def _numbered(value: Any, words: dict[str, int]) -> Any:
    """The same value with every text as ``[place in words]``: names of figures and arms are those of many models."""
    if isinstance(value, str):
        return [words.setdefault(value, len(words))]
    if isinstance(value, list):
        return [_numbered(item, words) for item in value]
    return {key: _numbered(item, words) for key, item in value.items()} if isinstance(value, dict) else value


def _stress(report: StressReport | None) -> dict[str, Any] | None:
    """Two decimals are enough here: the figures rest on a few dozen pairs."""
    if report is None:
        return None
    return {
        "about": [plain(report.judge), plain(report.budget), report.pairs, plain(report.package_version)],
        "rates": [_number(report.refusal_rate), _number(report.over_refusal_rate)],
        "systems": [
            [
                one.system,
                plain(one.reason),
                [_stress_figure(figure) for figure in one.figures],
                [[plain(control.arm), *_estimate(control.answered, 2)] for control in one.controls],
                [[_number(point.dose), *_estimate(point.refusal_rate, 2)] for point in one.curve],
            ]
            for one in report.systems
        ],
        "figures": [_stress_figure(figure) for figure in report.figures],
    }


def _stress_figure(figure: StressFigure) -> list[Any]:
    reason = [plain(figure.reason)] if figure.reason else []
    return [figure.name, *_estimate(figure.estimate, 2), *reason]


def _reading(figures: ReadingFigures, k: int) -> dict[str, Any]:
    at_k = next((point for point in figures.curve if point.k == k), None)
    return {
        "c": _estimate(at_k) if at_k else [None, None, None],
        **{rate.key: _estimate(attrgetter(rate.field)(figures)) for rate in RATES},
        "curve": _curve(figures.curve),
        "pairs": figures.pairs,
        "short": figures.pairs_short,
        "bounds": [_number(bound) for bound in figures.bounds] if figures.bounds else None,
        **{one.key: _sides(attrgetter(one.field)(figures)) for one in SIDES},
        "shares": [_shares(figures.variance_shares_harmful), _shares(figures.variance_shares_benign)],
    }


def _corrected(row: Row) -> dict[str, Any] | None:
    fixed = row.corrected
    if fixed is None:
        return None
    return {
        "used": fixed.used,
        "labelled": fixed.labelled,
        "r": _estimate(fixed.refusal_rate),
        "o": _estimate(fixed.over_refusal_rate),
        "rg": [_estimate(fixed.rogan_gladen_refusal_rate), _estimate(fixed.rogan_gladen_over_refusal_rate)],
    }


def _stability(row: Row) -> tuple[float | None, float | None, float | None]:
    return row.stability.ssi, row.stability.flip_rate, row.stability.unstable


def _covered(side: SideCoverage) -> list[Any]:
    return [side.rows, side.scored, _number(side.share), side.reasons]


def _hazard(figures: HazardFigures | None) -> list[Any] | None:
    if figures is None:
        return None
    others = figures.against_others
    return [
        figures.pairs,
        _estimate(figures.headline),
        _estimate(figures.refusal_rate, 4),
        _estimate(figures.over_refusal_rate, 4),
        [_number(others.difference, 4), _number(others.q, 4)] if others else None,
    ]


def _number(value: float | None, places: int = 5) -> float | None:
    """As :func:`.text.shown`; whole numbers without a point, for the page's size."""
    kept = shown(value, places)
    return int(kept) if kept is not None and kept.is_integer() else kept


def _estimate(value: Estimate | CurvePoint, places: int = 5) -> list[float | None]:
    return [_number(number, places) for number in (value.value, value.low, value.high)]


def _curve(points: list[CurvePoint]) -> list[list[float | None]]:
    return [[point.k, *_estimate(point)] for point in points]


def _sides(value: BySide) -> list[float | None]:
    return [_number(value.all), _number(value.harmful), _number(value.benign)]


def _shares(value: Shares) -> list[float | None]:
    return [_number(value.pairs), _number(value.variants), _number(value.samples), _number(value.total)]
