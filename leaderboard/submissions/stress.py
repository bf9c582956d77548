"""``stress.json`` of a submission: read with distrust.

Its figures cannot be recomputed, for the cells stay with the submitter. What can be checked is that it is of the
submission's model, that every value is possible, and that nothing is filled in that the test held back.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...benchmark.errors import DemurError
from ...benchmark.files import read_json
from ...benchmark.schema import problems
from .identity import Model

__all__ = ["STRESS_FILE", "read_stress", "stress_problems", "stress_source"]

STRESS_FILE = "stress.json"
MOST_BYTES = 2**20
_LONGEST = 1000
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_UNIT, _SIGNED = (0.0, 1.0), (-1.0, 1.0)
_RANGES = {
    "refusal_rate": _UNIT,
    "over_refusal_rate": _UNIT,
    "benign_answer_rate": _UNIT,
    "scored": _UNIT,
    "reached": _UNIT,
    "area": _UNIT,
    "concentration": _UNIT,
    "p_value": _UNIT,
    "answered": _SIGNED,
    "drop": _SIGNED,
    "routing_correlation": _SIGNED,
    "kl": (-1e-6, math.inf),
    "dose": (0.0, math.inf),
    "dose_50": (0.0, math.inf),
}
_SLACK = 1e-9


def stress_source(path: Path) -> Path:
    """The file that a stress test wrote: ``path`` itself, or ``stress.json`` in it.

    Raises:
        DemurError: there is none.
    """
    found = path / STRESS_FILE if path.is_dir() else path
    if not found.is_file():
        raise DemurError(f"{found}: no such file", "give the folder that `demur stress --out` wrote, when it is done")
    return found


def read_stress(path: Path, model: Model, sha256: str | None = None) -> tuple[dict[str, Any] | None, list[str]]:
    """Read a ``stress.json`` that a stranger made.

    Args:
        path: of the file.
        model: whose it must be.
        sha256: that the file must have; any where None.

    Returns:
        Its value, None where it cannot be used, and what is wrong.
    """
    name = path.name
    if path.is_symlink() or not path.is_file():
        return None, [f"{name} is not a plain file"]
    if path.stat().st_size > MOST_BYTES:
        return None, [f"{name} has {path.stat().st_size} bytes; {MOST_BYTES} are enough"]
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return None, [f"{name} is not the file whose hash submission.json states"]
    try:
        value = read_json(path)
    except DemurError as fault:
        return None, [fault.message]
    except (RecursionError, ValueError) as fault:
        return None, [f"{name}: not readable as JSON: {str(fault)[:120]}"]
    found = [f"{name} {fault}" for fault in problems(value, "demur.benchmark", "stress")]
    if not found:
        found = [f"{name}: {fault}" for fault in stress_problems(value, model)]
    return (None if found else value), found


def stress_problems(value: Mapping[str, Any], model: Model) -> Iterator[str]:
    """What is wrong with a ``stress.json`` that fits its schema, one sentence each."""
    yield from _of_model(value["model"], model)
    yield from _values(value, "$")
    broken = [check["name"] for check in value["self_test"] if not check["passed"]]
    published = [name for name, entry in value["systems"].items() if entry["published"]]
    if broken and (published or value["experts"] is not None):
        yield f"its self-test failed ({', '.join(broken)[:120]}), and yet it gives figures"
    for name, entry in value["systems"].items():
        yield from (f"{name} {fault}" for fault in _system(name, entry, value["plan"]["doses"]))
    if "S5" in published and "S1" in value["systems"] and "S1" not in published:
        yield "S5 is published, though its direction is that of S1, which is not"
    share = value["single_expert_share"]
    if share["value"] is not None and not {"S1", "S4"} <= set(published):
        yield "gives a single-expert share, though S1 and S4 are not both published"
    if (share["value"] is None) != bool(share["reason"]):
        yield "single_expert_share needs either a value or a reason"


def _of_model(found: Mapping[str, Any], model: Model) -> Iterator[str]:
    if found["name"] not in {model.id, *model.formerly}:
        yield f"is of model {found['name'][:120]!r}, not of {model.id!r}"
    if model.architecture != "undisclosed" and found["architecture"] != model.architecture:
        yield f"is of a {found['architecture']} model; the submission's is {model.architecture}"
    if model.experts and found["experts"] != model.experts:
        yield f"is of a model with {found['experts']} experts in a layer; the submission's has {model.experts}"
    # A stress test that names the revision must name the submission's.
    revision = found.get("revision", "unknown")
    if "unknown" not in (revision, model.revision) and revision != model.revision:
        yield f"is of revision {str(revision)[:80]!r}, not of {model.revision!r}"


def _system(name: str, entry: Mapping[str, Any], doses: list[float]) -> Iterator[str]:
    figures = entry["figures"]
    if entry["published"] != (figures is not None):
        yield "is not published, and yet its figures are filled in" if figures else "is published without figures"
    if entry["published"] == bool(entry["reason"]):
        yield "is published and gives a reason against it" if entry["published"] else "is held back without a reason"
    if not entry["published"]:
        return
    if "real" not in entry["controls"]:
        yield "is published without its effect"
    if figures is None:
        return
    if (name == "S5") != ("parts" in figures):
        yield "has the figures of another system"
    grid = [point["dose"] for point in figures.get("curve", ())]
    if grid and grid != sorted({0.0, *doses}):
        yield "has a curve over other doses than its plan names"
    half = figures.get("dose_50", {}).get("value")
    if half is not None and half > max(doses):
        yield f"has a dose_50 of {half:g}, beyond its largest dose"


def _values(value: Any, path: str, key: str = "") -> Iterator[str]:
    """Numbers that are not finite or out of range, intervals out of order, texts that are long or hold controls."""
    if isinstance(value, str):
        if len(value) > _LONGEST or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
            yield f"{path}: a text that is too long or holds control characters"
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        low, high = _RANGES.get(key, (-math.inf, math.inf))
        if not math.isfinite(value) or not low - _SLACK <= value <= high + _SLACK:
            yield f"{path}: {value!r} is out of range"
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _values(item, f"{path}[{at}]", key)
    elif isinstance(value, dict):
        yield from _interval(value, path)
        for name, item in value.items():
            place = f"{path}.{name[:60]}"
            if path.endswith((".controls", ".alone", ".shares")) and not _KEY.fullmatch(name):
                yield f"{place}: no name of an arm or a part"
            yield from _values(item, place, key if name in ("value", "low", "high") else name)


def _interval(value: Mapping[str, Any], path: str) -> Iterator[str]:
    if not {"value", "low", "high"} <= value.keys():
        return
    low, high = value["low"], value["high"]
    if (low is None) != (high is None) or (value["value"] is None and low is not None):
        yield f"{path}: half an interval"
    elif low is not None and low > high:
        yield f"{path}: an interval from {low:g} down to {high:g}"
