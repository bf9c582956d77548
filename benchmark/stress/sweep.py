"""The whole stress test of one model: self-test, preparation, units, result. Kill it and start it again: it goes on.

Only units' cells and the result reach the disk. Directions are collected again on every start; they are never written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DemurError
from ..files import read_json, write_json
from ..journal import Journal, read_journal
from ..version import package_version
from .anatomy import require_steerable
from .cells import Cell, read_cells, write_cells
from .engine import Engine
from .measure import Unit, measure, own_cells, units
from .memory import require_memory
from .prepare import Prepared, prepare, tokens_of
from .result import fingerprint, result
from .rows import Tokens
from .selftest import failures, self_test
from .settings import EXPERT_SYSTEMS, Settings, System
from .subject import Subject
from .systems import candidates

__all__ = ["Progress", "plan_of", "stress"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the whole that is done, 0 to 1."""

_WEIGHTS: dict[System, float] = {"S1": 3.0, "S2": 2.0, "S3": 2.0, "S4": 3.0, "S5": 1.0}
"""Roughly how long a unit of each system takes, for the time left."""


def plan_of(model: Any, plan: Settings, *, asked: bool) -> Settings:
    """The plan with the systems that the model can have.

    Args:
        model: a transformers model.
        plan: what is wanted.
        asked: whether the user named the systems. If not, a model without reachable experts gets S1 and S5.

    Raises:
        DemurError: an option for experts was given for a dense model, or the model cannot be steered at all.
    """
    wants_experts = any(system in EXPERT_SYSTEMS for system in plan.systems)
    require_steerable(model, experts=bool(plan.named) or (asked and wants_experts))
    try:
        require_steerable(model, experts=True)
    except DemurError:
        return replace(plan, systems=tuple(system for system in plan.systems if system not in EXPERT_SYSTEMS))
    return plan


def stress(
    subject: Subject, plan: Settings, folder: Path, *, progress: Progress = lambda _what, _share: None
) -> dict[str, Any]:
    """Run the stress test and write ``stress.json`` and ``cells.parquet`` into the folder.

    Args:
        subject: the model under test.
        plan: see :func:`plan_of`.
        folder: of the result; units that are already there are not measured again.
        progress: told how far it is.

    Returns:
        What ``stress.json`` holds.

    Raises:
        DemurError: the model cannot be measured, does not fit, refuses too little, or the folder is another test's.
    """
    require_steerable(subject.model)
    require_memory(subject, plan)
    mark = fingerprint(subject, plan)
    _claim(folder, mark)
    began = time.monotonic()
    with Journal(folder / "journal.jsonl") as journal:
        progress("self-test", 0.0)
        checks = self_test(subject.model, _test_prompts(subject))
        if broken := failures(checks):
            raise DemurError(f"{subject.name}: not measured: its self-test failed: {broken}", "take another family")
        filler = subject.tokenizer.pad_token_id
        with Engine(subject.model, filler=0 if filler is None else filler) as engine:
            progress("answers without steering, directions and routing", 0.01)
            prepared = prepare(subject, engine, plan)
            work = units(plan, general=bool(subject.general))
            kept = [unit.name for unit in work if _file(folder, unit).exists()]
            journal.append("resumed" if kept else "started", units=len(work), kept=kept, version=package_version())
            try:
                cells = _measured(engine, prepared, work, folder, progress=progress, journal=journal)
            except KeyboardInterrupt:
                journal.append("interrupted", reason="stopped by the user")
                raise
            journal.append("unit_measured", unit="preparation", cells=0, seconds=_since(began, folder))
            facts = {"fingerprint": mark, "seconds": _seconds(folder), "searches": _searches(engine, prepared, cells)}
            found = result(prepared, engine.parts, cells, checks, facts)
        write_cells(folder / "cells.parquet", cells)
        write_json(folder / "stress.json", found)
        journal.append("finished", cells=len(cells))
    progress("done", 1.0)
    return found


def _test_prompts(subject: Subject) -> list[Tokens]:
    """Three short training prompts, of different lengths where there are: real text, as noise amplifies rounding."""
    prompts = sorted(set(tokens_of(subject, [pair.benign for pair in subject.part("train")])), key=len)
    lengths = sorted({len(tokens): tokens for tokens in prompts}.values(), key=len)
    return list(dict.fromkeys([*lengths[:3], *prompts]))[:3]


def _claim(folder: Path, mark: str) -> None:
    """Write what the folder is a test of, or see that it is this one."""
    plan = folder / "plan.json"
    if plan.exists():
        noted = read_json(plan)
        if not isinstance(noted, dict) or noted.get("fingerprint") != mark:
            raise DemurError(
                f"{folder}: holds the stress test of another model, pairs, plan or version", "choose another --out"
            )
        return
    (folder / "units").mkdir(parents=True, exist_ok=True)
    write_json(plan, {"format": 1, "fingerprint": mark, "version": package_version()})


def _file(folder: Path, unit: Unit) -> Path:
    return folder / "units" / f"{unit.name}.parquet"


def _measured(
    engine: Engine, prepared: Prepared, work: Sequence[Unit], folder: Path, *, progress: Progress, journal: Journal
) -> list[Cell]:
    """Cells of every unit in order, those on disk read and the others measured and kept."""
    whole = sum(_WEIGHTS[unit.system] for unit in work) or 1.0
    share = 0.0
    cells = own_cells(prepared)
    for unit in work:
        path = _file(folder, unit)
        weight = _WEIGHTS[unit.system] / whole
        if path.exists():
            cells += read_cells(path)
        else:
            began = time.monotonic()
            progress(f"{unit.system}, {unit.arm.replace('_', ' ')}, seed {unit.seed}", 0.02 + 0.97 * share)
            mine, _ = measure(engine, prepared, unit, known=cells)
            write_cells(path, mine)
            journal.append("unit_measured", unit=unit.name, cells=len(mine), seconds=time.monotonic() - began)
            cells += mine
        share += weight
    return cells


def _since(began: float, folder: Path) -> float:
    """Seconds of this start that no unit's line accounts for."""
    events = read_journal(folder / "journal.jsonl")
    last = max((n for n, event in enumerate(events) if event["event"] in ("started", "resumed")), default=0)
    accounted = float(sum(event.get("seconds", 0.0) for event in events[last:]))
    return max(time.monotonic() - began - accounted, 0.0)


def _seconds(folder: Path) -> float:
    """Seconds over all starts of this test."""
    events = read_journal(folder / "journal.jsonl")
    return float(sum(event.get("seconds", 0.0) for event in events if event["event"] == "unit_measured"))


def _searches(engine: Engine, prepared: Prepared, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Per search how many candidates it tried and how many the budget left out."""
    found = []
    for cell in cells:
        if cell.phase == "chosen" and cell.arm == "real" and cell.seed == 0:
            every = candidates(cell.system, "real", 0, prepared, engine.parts)  # type: ignore[arg-type]
            skipped = len(every) - cell.prompts
            found.append({"system": cell.system, "tried": cell.prompts, "skipped": skipped})
    return found
