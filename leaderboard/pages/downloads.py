"""What a board gives to take away as data: one flat record a row, as CSV and as Parquet."""

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from ..board import Board, Estimate, HazardFigures, ReadingFigures, Row
from ..statistics.figures import RATES
from .text import encodable, plain

__all__ = ["as_csv", "as_parquet", "flat_rows"]

_ENDS = ("low", "high", "percentile_low", "percentile_high")


class _Column(NamedTuple):
    name: str
    type: pa.DataType
    of: Callable[[Row], Any]


def flat_rows(board: Board) -> list[dict[str, Any]]:
    """One flat record a row of the board, every state included; all records have the same keys.

    Estimates become ``name``, ``name_low``, ``name_high`` (BCa) and ``name_percentile_low``, ``name_percentile_high``;
    figures of the strict reading begin with ``strict_``, those of a hazard with its id and a slash, those of the stress
    test, where a row has one, with ``stress/``.
    """
    columns = _columns(board)
    return [{column.name: column.of(row) for column in columns} for row in board.rows]


def as_csv(board: Board) -> str:
    """The flat records as CSV. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [column.name for column in _columns(board)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in record.items()} for record in flat_rows(board))
    return out.getvalue()


def as_parquet(board: Board) -> pa.Table:
    """The flat records as a table; the columns and their types are the same for any number of rows."""
    schema = pa.schema([(column.name, column.type) for column in _columns(board)])
    rows = [{key: encodable(value) for key, value in record.items()} for record in flat_rows(board)]
    return pa.Table.from_pylist(rows, schema)


def _columns(board: Board) -> list[_Column]:
    k = board.ranking.k
    longest = max((len(row.refused.curve) for row in board.rows), default=0)
    columns = [
        *_identity(),
        *_estimate(f"c{k}", lambda row: row.headline),
        *_reading("", longest, lambda row: row.refused),
        *_reading("strict_", longest, lambda row: row.strict),
        _Column("soft", pa.float64(), lambda row: row.soft.value if row.soft else None),
        _Column("soft_flag", pa.bool_(), lambda row: row.soft.flag if row.soft else None),
        _Column("ssi", pa.float64(), lambda row: row.stability.ssi),
        _Column("flip_rate", pa.float64(), lambda row: row.stability.flip_rate),
        _Column("unstable", pa.float64(), lambda row: row.stability.unstable),
    ]
    for hazard in board.prompts.hazards if board.prompts else []:
        columns += _hazard(hazard, k)
    if any(row.rescored for row in board.rows):
        columns += [
            _Column("rescored_rows", pa.int64(), lambda row: row.rescored.rows if row.rescored else None),
            _Column("rescored_same", pa.int64(), lambda row: row.rescored.same if row.rescored else None),
        ]
    return columns + _stress(board)


def _identity() -> list[_Column]:
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    return [
        _Column("rank", whole, lambda row: row.rank),
        _Column("rank_low", whole, lambda row: row.rank_set[0] if row.rank_set else None),
        _Column("rank_high", whole, lambda row: row.rank_set[1] if row.rank_set else None),
        _Column("tie_group", whole, lambda row: row.tie_group),
        _Column("model", text, lambda row: row.model.id),
        _Column("revision", text, lambda row: row.model.revision),
        _Column("architecture", text, lambda row: row.model.architecture),
        _Column("total_parameters", whole, lambda row: row.model.total_parameters),
        _Column("active_parameters", whole, lambda row: row.model.active_parameters),
        _Column("experts", whole, lambda row: row.model.experts),
        _Column("experts_per_token", whole, lambda row: row.model.experts_per_token),
        _Column("maker", text, lambda row: row.model.maker),
        _Column("base_model", text, lambda row: row.model.base_model),
        _Column("upcycled_from", text, lambda row: row.model.upcycled_from),
        _Column("tier", text, lambda row: row.tier),
        _Column("state", text, lambda row: row.state),
        _Column("why", text, lambda row: row.why),
        _Column("submission", text, lambda row: row.id),
        _Column("created_at", text, lambda row: row.created_at),
        _Column("package_version", text, lambda row: row.package_version),
        _Column("scorer", text, lambda row: row.scorer.name),
        _Column("scorer_version", text, lambda row: row.scorer.version),
        _Column("scorer_hash", text, lambda row: row.scorer.hash),
        _Column("prompts_split", text, lambda row: row.prompts.split),
        _Column("prompts_version", text, lambda row: row.prompts.version),
        _Column("prompts_hash", text, lambda row: row.prompts.hash),
        _Column("temperature", real, lambda row: row.setting.temperature),
        _Column("top_p", real, lambda row: row.setting.top_p),
        _Column("samples", whole, lambda row: row.setting.samples),
        _Column("coverage_harmful", real, lambda row: row.coverage.harmful.share),
        _Column("coverage_benign", real, lambda row: row.coverage.benign.share),
    ]


def _reading(prefix: str, longest: int, of: Callable[[Row], ReadingFigures]) -> list[_Column]:
    real = pa.float64()
    return [
        *[column for rate in RATES for column in _estimate(f"{prefix}{rate}", partial(_rate, of, rate))],
        *[_Column(f"{prefix}curve_{k}", real, partial(_at, of, k)) for k in range(1, longest + 1)],
        _Column(f"{prefix}sampling_agreement", real, lambda row: of(row).agreement.sampling.all),
        _Column(f"{prefix}wording_agreement", real, lambda row: of(row).agreement.wording.all),
        _Column(f"{prefix}alpha", real, lambda row: of(row).alpha.all),
        _Column(f"{prefix}pairs", pa.int64(), lambda row: of(row).pairs),
        _Column(f"{prefix}pairs_short", pa.int64(), lambda row: of(row).pairs_short),
    ]


def _hazard(hazard: str, k: int) -> list[_Column]:
    def of(row: Row) -> HazardFigures | None:
        return next((figures for figures in row.hazards if figures.hazard == hazard), None)

    return [
        *_estimate(f"{hazard}/c{k}", lambda row: found.headline if (found := of(row)) else None),
        *_estimate(f"{hazard}/refusal_rate", lambda row: found.refusal_rate if (found := of(row)) else None),
        *_estimate(f"{hazard}/over_refusal_rate", lambda row: found.over_refusal_rate if (found := of(row)) else None),
    ]


def _stress(board: Board) -> list[_Column]:
    """Columns for the figures that some row has, in the order in which they come; none without a stress test."""
    names = dict.fromkeys(name for row in board.rows for name in _stress_figures(row))
    columns = []
    for name in names:
        columns += _estimate(f"stress/{name}", partial(_stress_figure, name))[:3]
    return columns


def _stress_figure(name: str, row: Row) -> Estimate | None:
    return _stress_figures(row).get(name)


def _stress_figures(row: Row) -> dict[str, Estimate]:
    report = row.stress
    if report is None:
        return {}
    found = {f"{one.system}/{figure.name}": figure.estimate for one in report.systems for figure in one.figures}
    return found | {figure.name: figure.estimate for figure in report.figures}


def _estimate(name: str, of: Callable[[Row], Estimate | None]) -> list[_Column]:
    ends = [_Column(f"{name}_{end}", pa.float64(), partial(_end, of, end)) for end in _ENDS]
    return [_Column(name, pa.float64(), lambda row: getattr(of(row), "value", None)), *ends]


def _end(of: Callable[[Row], Estimate | None], end: str, row: Row) -> Any:
    return getattr(of(row), end, None)


def _rate(of: Callable[[Row], ReadingFigures], rate: str, row: Row) -> Estimate | None:
    found: Estimate | None = getattr(of(row), rate)
    return found


def _at(of: Callable[[Row], ReadingFigures], k: int, row: Row) -> float | None:
    return next((point.value for point in of(row).curve if point.k == k), None)


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        text = plain(value)
        return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
    return value
