"""One unit of the sweep: one system, arm and seed, searched on validation pairs and measured on test pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..errors import DemurError
from .anatomy import Anatomy
from .cells import Cell
from .engine import Engine
from .interventions import Edit
from .prepare import Prepared, judgements
from .rows import log_odds
from .search import Chosen, search
from .settings import SYSTEMS, Arm, Settings, System
from .systems import arms_of, candidates, removal

__all__ = ["Unit", "factors", "measure", "own_cells", "units"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work whose cells are kept together; ``name`` is its file's name."""

    system: System
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """For example ``S1-real-0``."""
        return f"{self.system}-{self.arm}-{self.seed}"


@dataclass(frozen=True, slots=True)
class _Row:
    """An edit at a dose, measured on the sides named; where true, its answers are judged too."""

    name: str
    edit: Edit
    dose: float
    mode: str
    judged: Mapping[str, bool]


def _cells(engine: Engine, prepared: Prepared, unit: Unit, rows: Sequence[_Row]) -> list[Cell]:
    """All of a unit's test cells, in as few passes as can be."""
    asked = prepared.test
    places = {"harmful": range(asked.pairs), "benign": range(asked.pairs, len(asked.prompts))}
    wanted = torch.zeros(len(rows), len(asked.prompts), dtype=torch.bool)
    answered = wanted.clone()
    for number, row in enumerate(rows):
        for side, judged in row.judged.items():
            wanted[number, places[side]], answered[number, places[side]] = True, judged
    scores = engine.score(
        [row.edit for row in rows],
        asked.prompts,
        prepared.openers,
        own=asked.own,
        selected=asked.selected or None,
        wanted=wanted,
        ending=prepared.ending,
        answered=answered,
    )
    ids, texts = asked.harmful.ids + asked.benign.ids, asked.texts
    cells = []
    for number, row in enumerate(rows):
        said = answered[number].nonzero().flatten().tolist()
        verdicts = judgements(
            prepared.subject, [texts[n] for n in said], [scores.answers[number, n] for n in said], prepared.ending
        )
        verdict_on: dict[int, str] = dict(zip(said, verdicts, strict=True))
        cells += [
            Cell(
                "test", unit.system, unit.arm, unit.seed, row.name, row.mode, row.dose, side, ids[n], 1,
                float(scores.log_odds[number, n]), float(scores.kl[number, n]), verdict_on.get(n, ""),
            )
            for side in row.judged for n in places[side]
        ]  # fmt: skip
    return cells


def units(plan: Settings, *, general: bool = False) -> list[Unit]:
    """The units in the order in which they are measured: S5 needs what S1 chose, so S1 comes first."""
    needed = {*plan.systems, *(("S1",) if "S5" in plan.systems else ())}

    def seeds(system: System, arm: Arm) -> int:
        if (system, arm) == ("S1", "shuffled_labels"):
            return plan.shuffles
        return plan.seeds if arm == "real" else plan.control_seeds

    return [
        Unit(system, arm, seed)
        for system in SYSTEMS
        if system in needed
        for arm in arms_of(system, general=general)
        for seed in range(seeds(system, arm))
    ]


def own_cells(prepared: Prepared) -> list[Cell]:
    """The model unsteered on the test pairs: log-odds and the judgement of a short answer."""
    asked = prepared.test
    odds = log_odds(asked.own, prepared.openers).tolist()
    ids = [(side, pair) for side, where in (("harmful", asked.harmful), ("benign", asked.benign)) for pair in where.ids]
    return [
        Cell("own", side=side, pair_id=pair, log_odds=value, judgement=verdict)
        for (side, pair), value, verdict in zip(ids, odds, asked.verdicts, strict=True)
    ]


def measure(
    engine: Engine,
    prepared: Prepared,
    unit: Unit,
    *,
    known: Sequence[Cell] = (),
) -> tuple[list[Cell], Chosen | None]:
    """Measure one unit.

    Args:
        engine: open.
        prepared: see :func:`.prepare.prepare`.
        unit: which.
        known: cells of units measured before; S5 reads there what S1 chose.

    Returns:
        Its cells, and what its search chose (None for S5, which does not search, and where there is no candidate).
    """
    if unit.system == "S5":
        return _cells(engine, prepared, unit, _factorial(engine, prepared, unit, known)), None
    found = candidates(unit.system, unit.arm, unit.seed, prepared, engine.parts)
    if not found:
        return [], None  # for example no expert whose routing differs; the result says so
    chosen, cells = search(engine, prepared, found, system=unit.system, arm=unit.arm, seed=unit.seed)
    best, plan = chosen.candidate, prepared.settings
    if unit.arm == "real":
        # Benign answers of every seed would double the cost; the first seed's are judged, all are scored.
        judged = {"harmful": True, "benign": unit.seed == 0}
        rows = [_Row(best.key, best.suppress(dose), dose, "suppress", judged) for dose in plan.doses]
        if best.induce is not None and unit.seed == 0:
            rows += [_Row(best.key, best.induce(dose), dose, "induce", {"benign": True}) for dose in plan.doses]
    else:
        judged = {"harmful": True, "benign": False}
        rows = [_Row(best.key, best.suppress(chosen.dose), chosen.dose, "suppress", judged)]
    return cells + _cells(engine, prepared, unit, rows), chosen


def factors(parts: Anatomy) -> tuple[str, ...]:
    """The parts of the model that S5 tells apart; empty where the layers' writes are not known."""
    if not parts.writes_known:
        return ()
    moe = {layer for _, layer, _ in parts.experts}
    present = {
        "attention": any(parts.attention),
        "feed_forward": any(found and n not in moe for n, found in enumerate(parts.feed_forward)),
        "routed": bool(parts.experts),
        "shared": any(parts.shared),
    }
    return tuple(name for name, here in present.items() if here)


def _factorial(engine: Engine, prepared: Prepared, unit: Unit, known: Sequence[Cell]) -> list[_Row]:
    """S5: the direction that S1 chose, removed from the writes of every combination of parts."""
    choice = next(c for c in known if (c.phase, c.system, c.arm, c.seed) == ("chosen", "S1", "real", unit.seed))
    direction = _direction(prepared, engine.parts, unit, choice.candidate)
    names = factors(engine.parts)
    rows = []
    for on in product((False, True), repeat=len(names)):
        removed = tuple(name for name, chosen in zip(names, on, strict=True) if chosen)
        if removed:
            edit = removal(direction, engine.parts, removed)(1.0)
            judged = {"harmful": unit.arm == "real" or len(removed) == len(names), "benign": False}
            rows.append(_Row("+".join(removed), edit, 1.0, "suppress", judged))
    return rows


def _direction(prepared: Prepared, parts: Anatomy, unit: Unit, key: str) -> Tensor:
    """The direction of the named candidate of S1; the random one in its place in the arm of random directions."""
    for candidate in candidates("S1", unit.arm, unit.seed, prepared, parts):
        if candidate.key == key and candidate.unit is not None:
            return candidate.unit
    raise DemurError(
        f"{unit.name}: S1's choice {key!r} is not among its candidates", "delete the folder and start again"
    )
