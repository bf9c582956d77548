"""The candidates of systems S1 to S4, and of their control arms, each a function from dose to edit.

Suppression is always minus the (harmful minus benign) direction; induction is plus, at the same doses. A control arm
has as many candidates as the real arm, made in the same way from what should carry nothing: a random direction of the
same norm, random experts, or shuffled labels, with the real directions taken out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import DemurError
from .anatomy import Anatomy
from .interventions import Change, Edit, Push, Site, expert_site
from .prepare import Prepared
from .settings import Arm, System
from .world import World

__all__ = ["Candidate", "arms_of", "candidates", "removal"]

Make = Callable[[float], Edit]
LAST_LAYERS_OUT = 0.2
LARGEST_SHARE = 0.25
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to steer, at any dose.

    Attributes:
        key: names it in the result, for example ``add layer=12 position=0``; no numbers of a direction are in it.
        cheap: score known without a forward pass; larger is tried first.
        suppress: the edit that should lower refusal, by dose.
        induce: the edit that should raise it; None where the system has none.
        unit: the direction (hidden,) of the residual stream, where the candidate has one.
        fixed: whether the edit is the same under every selection seed, so that it need not be scored again.
    """

    key: str
    cheap: float
    suppress: Make
    induce: Make | None = None
    unit: Tensor | None = None
    fixed: bool = False


def arms_of(system: System, *, general: bool = False) -> tuple[Arm, ...]:
    """The real arm and the controls that a system has; with general instructions S1's directions against these too."""
    arms: dict[System, tuple[Arm, ...]] = {
        "S1": ("real", "random_direction", "shuffled_labels"),
        "S2": ("real", "random_expert", "shuffled_labels"),
        "S3": ("real", "random_direction", "random_expert", "shuffled_labels"),
        "S4": ("real", "random_direction", "shuffled_labels"),
        "S5": ("real", "random_direction"),
    }
    return (*arms[system], "general_instructions") if general and system == "S1" else arms[system]


def candidates(system: System, arm: Arm, seed: int, prepared: Prepared, parts: Anatomy) -> list[Candidate]:
    """Every candidate of a system and arm under one selection seed, in an order that depends on nothing else."""
    world = World(prepared, parts, arm, seed, system)
    if system == "S1":
        return _dense(world)
    if system == "S2":
        return _routing(world)
    if system == "S3":
        return _named(world) if prepared.settings.named else _expert_sets(world)
    if system == "S4":
        return _single(world)
    raise ValueError("S5 has no candidates of its own: it takes the direction that S1 chose")


def removal(unit: Tensor, parts: Anatomy, sites: tuple[str, ...] | None = None) -> Make:
    """Remove the component along ``unit``.

    Args:
        unit: (hidden,) unit vector.
        parts: the model's anatomy.
        sites: parts whose writes lose it (``attention``, ``feed_forward``, ``shared``, ``routed``); None removes it
            everywhere: from the input of every layer, from attention's writes inside the layers, and at the end.
    """
    layers = range(len(parts.layers))
    if sites is None:
        where = [Site("input", n) for n in layers] + [Site("output", layers[-1])]
        where += [Site("attention", n) for n in layers if parts.attention[n]]
    else:
        where = []
        for part in sites:
            if part == "routed":
                where += [Site("routed", module) for module in range(len(parts.experts))]
            elif part == "attention":
                where += [Site("attention", n) for n in layers if parts.attention[n]]
            elif part == "shared":
                where += [Site("shared", n) for n in layers if parts.shared[n]]
            else:
                moe = {layer for _, layer, _ in parts.experts}
                where += [Site("feed_forward", n) for n in layers if parts.feed_forward[n] and n not in moe]

    def make(dose: float) -> Edit:
        return Edit({site: Change(unit=unit, amount=dose) for site in where})

    return make


def _dense(world: World) -> list[Candidate]:
    """S1: the mean difference of the residual stream by layer and position, removed everywhere or subtracted there."""
    found = []
    collected = world.collected
    for layer in range(math.ceil(len(world.parts.layers) * (1 - LAST_LAYERS_OUT))):
        for position in range(world.positions):
            difference = world.residual[layer, position]
            norm = collected.norm[layer, position]
            unit = world.unit(difference)
            cheap = float(difference.norm() / norm.clamp(min=1e-12)) if layer else 0.0
            place = f"layer={layer} position={position}"

            def add(dose: float, layer: int = layer, step: Tensor = unit * norm) -> Edit:
                return Edit({Site("input", layer): Change(add=step * -dose)})

            def induce(dose: float, layer: int = layer, step: Tensor = unit * norm) -> Edit:
                return Edit({Site("input", layer): Change(add=step * dose)})

            found.append(Candidate(f"remove {place}", cheap, removal(unit, world.parts), induce, unit))
            found.append(Candidate(f"add {place}", cheap, add, induce, unit))
    return found


def _routing(world: World) -> list[Candidate]:
    """S2: the experts with the largest routing differences; steered alone, or the routing pushed off or onto them."""
    found: list[Candidate] = []
    seen: set[tuple[tuple[int, int], ...]] = set()
    total = sum(count for _, _, count in world.parts.experts)
    pool = world.experts()
    for form in ("top-k", "top-1"):
        table = [
            (float(value), module, expert)
            for module in range(len(world.parts.experts))
            for expert, value in enumerate(world.difference(module, top_1=form == "top-1"))
        ]
        # Ties are broken by the number of the expert, the same way every time.
        more = sorted((entry for entry in table if entry[0] > 0), key=lambda entry: (-entry[0], entry[1:]))
        less = sorted((entry for entry in table if entry[0] < 0), key=lambda entry: (entry[0], entry[1:]))
        for count in [n for n in _COUNTS if n <= max(1, total * LARGEST_SHARE)]:
            if len(more) < count:
                break
            members = tuple(sorted(entry[1:] for entry in more[:count]))
            if members in seen:
                continue  # both forms often name the same experts
            seen.add(members)
            specific = world.instead(list(members), pool)
            others = world.instead([entry[1:] for entry in less[:count]], pool)
            cheap = sum(value for value, _, _ in more[:count])  # orders the sets by size
            label = f"{form} experts={count}"
            for position in range(world.positions):
                step = _steps(world, specific, position)
                found.append(
                    Candidate(f"steer {label} position={position}", cheap, _adding(step, -1.0), _adding(step, 1.0))
                )
            found.append(Candidate(f"away {label}", cheap, _pushing(specific, []), _pushing([], specific)))
            found.append(Candidate(f"toward {label}", cheap, _pushing([], others), _pushing(others, [])))
            found.append(Candidate(f"both {label}", cheap, _pushing(specific, others), _pushing(others, specific)))
    return found


def _expert_sets(world: World) -> list[Candidate]:
    """S3: the own directions of the top-N experts, and of all experts of a layer."""
    found = []
    pool = world.experts()
    ranked = sorted(pool, key=lambda entry: (-world.size(*entry), entry))
    # Larger shares of all experts are no choice of experts any more: any other set does the same.
    sets = [(f"top-N experts={n}", ranked[:n]) for n in _COUNTS if n <= max(1, len(ranked) * LARGEST_SHARE)]
    for module in range(len(world.parts.experts)):
        layer = [entry for entry in pool if entry[0] == module]
        if layer and world.arm != "random_expert":
            sets.append((f"whole layer={world.parts.experts[module][1]} module={module}", layer))
    for label, chosen in sets:
        members = world.instead(chosen, pool)
        cheap = sum(world.size(*entry) for entry in members)
        for position in range(world.positions):
            step = _steps(world, members, position)
            found.append(Candidate(f"{label} position={position}", cheap, _adding(step, -1.0), _adding(step, 1.0)))
    return found


def _named(world: World) -> list[Candidate]:
    """S3 for the experts that the user named, by layer and number."""
    found: list[Candidate] = []
    members = []
    for layer, expert in world.named:
        here = [m for m, (_, at, count) in enumerate(world.parts.experts) if at == layer and expert < count]
        if not here:
            raise DemurError(f"there is no expert {expert} in layer {layer}", "name experts that the model has")
        members += [(module, expert) for module in here]
    for position in range(world.positions):
        step = _steps(world, members, position)
        found.append(Candidate(f"named position={position}", 1.0, _adding(step, -1.0), _adding(step, 1.0)))
    return found


def _single(world: World) -> list[Candidate]:
    """S4: one expert alone: silenced, its own mean taken off, and its own direction taken out of its output.

    Taking a direction out of one expert's output may do nothing where silencing the expert does everything, so all
    three are tried. All take away what the expert writes and add nothing: a step along a direction, as S3 makes,
    steers whatever reads the stream and so shows refusal in experts that do not carry it. In the arm of random
    directions silence and mean become random vectors of the norm that the real change has.
    """
    found = []
    collected = world.collected
    for module, expert in world.experts():
        norm = collected.own_norm[module][expert]
        place = f"layer={world.parts.experts[module][1]} module={module} expert={expert}"
        cheap = world.size(module, expert)
        mean = collected.mean[module][0, expert]
        site = expert_site(module, expert)

        def silence(dose: float, site: Site = site) -> Edit:
            return Edit({site: Change(keep=1.0 - dose)})

        def step_of(step: Tensor, sign: float, site: Site = site) -> Make:
            return lambda dose: Edit({site: Change(add=step * (sign * dose))})

        def taken_out(unit: Tensor, site: Site = site) -> Make:
            return lambda dose: Edit({site: Change(unit=unit, amount=dose)})

        if world.arm == "real":
            found.append(Candidate(f"silence {place}", cheap, silence, fixed=True))
            found.append(Candidate(f"own mean {place}", cheap, step_of(mean, -1.0), fixed=True))
        elif world.arm == "random_direction":
            noise = world.unit(mean)
            found.append(Candidate(f"silence {place}", cheap, step_of(noise * norm, -1.0)))
            found.append(Candidate(f"own mean {place}", cheap, step_of(noise * mean.norm(), 1.0)))
        for position in range(world.positions):
            own = world.own(module, position, expert)
            if float(own.norm()) > 0:
                unit = world.unit(own)
                key = f"own direction {place} position={position}"
                found.append(Candidate(key, cheap, taken_out(unit), step_of(unit * norm, 1.0)))
    return found


def _steps(world: World, members: list[tuple[int, int]], position: int) -> dict[Site, Tensor]:
    """Per expert a step along its own direction as long as its own output is on average."""
    steps = {}
    for module, expert in members:
        own = world.own(module, position, expert)
        if float(own.norm()) > 0:
            steps[expert_site(module, expert)] = world.unit(own) * world.collected.own_norm[module][expert]
    return steps


def _adding(steps: dict[Site, Tensor], sign: float) -> Make:
    return lambda dose: Edit({site: Change(add=step * (sign * dose)) for site, step in steps.items()})


def _pushing(away: list[tuple[int, int]], toward: list[tuple[int, int]]) -> Make:
    """Push the routing of each module away from experts, and toward the first given expert of the module."""

    def make(dose: float) -> Edit:
        pushes: dict[int, Push] = {}
        for module in sorted({module for module, _ in away + toward}):
            off = {expert: dose for at, expert in away if at == module}
            onto = next((expert for at, expert in toward if at == module), -1)
            pushes[module] = Push(off, onto, dose if onto >= 0 else 0.0)
        return Edit(pushes=pushes)

    return make
