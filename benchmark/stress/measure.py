"""One unit of the sweep: one system, arm and seed, searched on validation pairs and measured on test pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from ..errors import DemurError
from .anatomy import Anatomy
from .cells import Cell
from .engine import Engine
from .interventions import Edit
from .prepare import Prepared, judge
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


class _Unit:
    """What measuring one unit needs at hand."""

    def __init__(self, engine: Engine, prepared: Prepared, unit: Unit, advance: Callable[[int], None]) -> None:
        self.engine, self.prepared, self.unit, self.advance = engine, prepared, unit, advance

    def edited(
        self, name: str, edits: Sequence[Edit], doses: Sequence[float], side: str, *, mode: str, judged: bool
    ) -> list[Cell]:
        """A row per edit and test prompt of a side."""
        where = self.prepared.sides["test", side]
        scores = self.engine.score(
            edits,
            where.asked,
            self.prepared.openers,
            own=where.own,
            selected=where.selected or None,
            advance=self.advance,
        )
        judgements = [[""] * len(where.ids) for _ in edits]
        if judged:
            plan = self.prepared.settings
            answers = judge(
                self.prepared.subject, self.engine, edits, where, new_tokens=plan.new_tokens, stop=self.prepared.stop
            )
            judgements = [[str(verdict) for verdict in row] for row in answers]
            self.advance(3 * len(edits) * len(where.ids))
        unit = self.unit
        return [
            Cell(
                "test", unit.system, unit.arm, unit.seed, name, mode, dose, side, pair, 1,
                float(scores.log_odds[row, p]), float(scores.kl[row, p]), judgements[row][p],
            )
            for row, dose in enumerate(doses)
            for p, pair in enumerate(where.ids)
        ]  # fmt: skip


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


def own_cells(engine: Engine, prepared: Prepared) -> list[Cell]:
    """The model unsteered on the test pairs: log-odds and the judgement of a short answer."""
    cells = []
    for side in ("harmful", "benign"):
        where = prepared.sides["test", side]
        plan = prepared.settings
        (answers,) = judge(prepared.subject, engine, [Edit()], where, new_tokens=plan.new_tokens, stop=prepared.stop)
        odds = log_odds(where.own, prepared.openers).tolist()
        cells += [
            Cell("own", side=side, pair_id=pair, log_odds=value, judgement=verdict)
            for pair, value, verdict in zip(where.ids, odds, answers, strict=True)
        ]
    return cells


def measure(
    engine: Engine,
    prepared: Prepared,
    unit: Unit,
    *,
    known: Sequence[Cell] = (),
    advance: Callable[[int], None] = lambda _rows: None,
) -> tuple[list[Cell], Chosen | None]:
    """Measure one unit.

    Args:
        engine: open.
        prepared: see :func:`.prepare.prepare`.
        unit: which.
        known: cells of units measured before; S5 reads there what S1 chose.
        advance: called with rows of work done.

    Returns:
        Its cells, and what its search chose (None for S5, which does not search, and where there is no candidate).
    """
    work = _Unit(engine, prepared, unit, advance)
    if unit.system == "S5":
        return _factorial(work, known), None
    found = candidates(unit.system, unit.arm, unit.seed, prepared, engine.parts)
    if not found:
        return [], None  # for example no expert whose routing differs; the result says so
    chosen, cells = search(engine, prepared, found, system=unit.system, arm=unit.arm, seed=unit.seed, advance=advance)
    best, plan = chosen.candidate, prepared.settings
    if unit.arm == "real":
        edits = [best.suppress(dose) for dose in plan.doses]
        cells += work.edited(best.key, edits, plan.doses, "harmful", mode="suppress", judged=True)
        # Benign answers of every seed would double the cost; the first seed's are judged, all are scored.
        cells += work.edited(best.key, edits, plan.doses, "benign", mode="suppress", judged=unit.seed == 0)
        if best.induce is not None and unit.seed == 0:
            raising = [best.induce(dose) for dose in plan.doses]
            cells += work.edited(best.key, raising, plan.doses, "benign", mode="induce", judged=True)
    else:
        for side in ("harmful", "benign"):
            edit = best.suppress(chosen.dose)
            cells += work.edited(best.key, [edit], [chosen.dose], side, mode="suppress", judged=side == "harmful")
    return cells, chosen


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


def _factorial(work: _Unit, known: Sequence[Cell]) -> list[Cell]:
    """S5: the direction that S1 chose, removed from the writes of every combination of parts."""
    engine, prepared, unit = work.engine, work.prepared, work.unit
    choice = next(c for c in known if (c.phase, c.system, c.arm, c.seed) == ("chosen", "S1", "real", unit.seed))
    direction = _direction(prepared, engine.parts, unit, choice.candidate)
    names = factors(engine.parts)
    cells = []
    for on in product((False, True), repeat=len(names)):
        removed = tuple(name for name, chosen in zip(names, on, strict=True) if chosen)
        if not removed:
            continue
        edit = removal(direction, engine.parts, removed)(1.0)
        label = "+".join(removed)
        judged = unit.arm == "real" or len(removed) == len(names)
        cells += work.edited(label, [edit], [1.0], "harmful", mode="suppress", judged=judged)
        cells += work.edited(label, [edit], [1.0], "benign", mode="suppress", judged=False)
    return cells


def _direction(prepared: Prepared, parts: Anatomy, unit: Unit, key: str) -> Tensor:
    """The direction of the named candidate of S1; the random one in its place in the arm of random directions."""
    for candidate in candidates("S1", unit.arm, unit.seed, prepared, parts):
        if candidate.key == key and candidate.unit is not None:
            return candidate.unit
    raise DemurError(
        f"{unit.name}: S1's choice {key!r} is not among its candidates", "delete the folder and start again"
    )
