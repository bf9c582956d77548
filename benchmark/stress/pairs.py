"""Pairs for the stress test: of the public split, or of a file."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import DemurError, raise_all
from ..prompts import load_prompt_set
from ..untrusted import parse_json
from .subject import PARTS, Part, TextPair

__all__ = ["assign_parts", "public_pairs", "read_general", "read_pairs"]

_CYCLE: tuple[Part, ...] = ("train", "validation", "train", "test")
"""Half of the pairs give directions, a quarter chooses, a quarter is measured."""


def public_pairs() -> tuple[TextPair, ...]:
    """The canonical wordings of the public split, its hazards in turn, so that every part has them all."""
    sides: dict[str, dict[str, str]] = {}
    by_hazard: dict[str, list[str]] = {}
    for prompt in load_prompt_set("public").prompts:
        if prompt.variant == "canonical":
            sides.setdefault(prompt.pair_id, {})[prompt.side] = prompt.text
            ids = by_hazard.setdefault(prompt.hazard, [])
            if prompt.pair_id not in ids:
                ids.append(prompt.pair_id)
    pairs: list[TextPair] = []
    for turn in range(max(map(len, by_hazard.values()))):
        part = _CYCLE[turn % len(_CYCLE)]
        pairs += [
            TextPair(ids[turn], sides[ids[turn]]["harmful"], sides[ids[turn]]["benign"], part)
            for ids in by_hazard.values()
            if turn < len(ids)
        ]
    return tuple(pairs)


def read_pairs(path: Path) -> tuple[TextPair, ...]:
    """Pairs of a file of JSON lines: ``{"id": …, "harmful": …, "benign": …, "part": "train"}``.

    ``part`` may be left out of all lines; the parts are then given in turn.

    Raises:
        DemurError: the file cannot be read, or lines are wrong; all are named.
    """
    rows: list[dict[str, str]] = []
    faults = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as fault:
            faults.append(f"line {number}: not JSON: {fault}")
            continue
        wrong = _wrong(row)
        if wrong:
            faults.append(f"line {number}: {wrong}")
        else:
            rows.append(row)
    with_part = sum("part" in row for row in rows)
    if not faults and with_part not in (0, len(rows)):
        faults.append(f"{with_part} of {len(rows)} lines name a part; name it on all or on none")
    raise_all(str(path), faults, 'each line is {"id": "…", "harmful": "…", "benign": "…"}, "part" on all or on none')
    if with_part:
        return tuple(TextPair(row["id"], row["harmful"], row["benign"], _part(row["part"])) for row in rows)
    return assign_parts([(row["id"], row["harmful"], row["benign"]) for row in rows])


def read_general(path: Path) -> tuple[str, ...]:
    """General instructions of a text file, one a line.

    Raises:
        DemurError: the file cannot be read.
    """
    return tuple(line.strip() for line in _lines(path) if line.strip())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise DemurError(f"{path}: cannot read: {fault}", "give a file of lines in UTF-8") from fault


def assign_parts(rows: Sequence[tuple[str, str, str]]) -> tuple[TextPair, ...]:
    """Pairs of (id, harmful, benign), their parts given in turn."""
    return tuple(TextPair(*row, _CYCLE[number % len(_CYCLE)]) for number, row in enumerate(rows))


def _wrong(row: object) -> str:
    if not isinstance(row, dict):
        return "not a JSON object"
    missing = [key for key in ("id", "harmful", "benign") if not isinstance(row.get(key), str) or not row[key].strip()]
    if missing:
        return f"{', '.join(missing)} must be text"
    extra = sorted(set(row) - {"id", "harmful", "benign", "part"})
    if extra:
        return f"unknown key {', '.join(extra)}"
    if "part" in row and row["part"] not in PARTS:
        return f"part {row['part']!r} is none of {', '.join(PARTS)}"
    return ""


def _part(name: str) -> Part:
    return next(part for part in PARTS if part == name)
