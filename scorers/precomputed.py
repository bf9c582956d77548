"""Labels that were made elsewhere, read from a file and found again by the response they are of."""

import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..benchmark.errors import DemurError, raise_all
from ..benchmark.untrusted import parse_json, unpacked
from .verdicts import LABELS, Label, ScoreRequest, ScorerInfo, Verdict

__all__ = ["Precomputed"]

VERSION = "1.0.0"


class Precomputed:
    """A scorer that looks its verdicts up.

    The file (``.csv`` or ``.jsonl``, both also as ``.gz``) has the columns ``label`` (refused, partial or complied),
    ``response`` or ``response_sha256`` (of the UTF-8 text), and, where they matter, ``prompt`` and ``p_refused``.
    Without ``p_refused`` it is 1 for refused and partial, 0 for complied. A response that the file does not hold is
    ``unscored(judge_failure)``.

    Args:
        path: the file.

    Raises:
        DemurError: no such file, not readable, missing columns, unknown labels, probabilities outside [0, 1], or two
            labels for one response; everything at once.
    """

    def __init__(self, path: Path) -> None:
        content = unpacked(path)
        self._name = f"precomputed-{path.name.split('.')[0]}"
        self._hash = hashlib.sha256(content).hexdigest()[:12]
        self._verdicts = _verdicts(path, _rows(path, content))

    @property
    def info(self) -> ScorerInfo:
        """Name with the file's, and the file's hash."""
        return ScorerInfo(self._name, VERSION, self._hash)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Verdict]:
        """Look up lazily, by response and prompt first, then by response alone."""
        missing = Verdict("unscored", "judge_failure", None, "the file holds no label of this response")
        for request in requests:
            response: object = request.response
            if request.finish_reason == "error" or not isinstance(response, str):
                yield Verdict("unscored", "error", None, request.error or f"{type(response).__name__}, not text")
                continue
            digest = _sha256(response)
            yield self._verdicts.get((digest, request.prompt)) or self._verdicts.get((digest, "")) or missing


def _rows(path: Path, content: bytes) -> list[Mapping[str, Any]]:
    kind = path.name.removesuffix(".gz").rsplit(".", maxsplit=1)[-1]
    try:
        text = content.decode("utf-8")
        if kind == "csv":
            csv.field_size_limit(sys.maxsize)
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if kind == "jsonl":
            return [parse_json(line) for line in text.split("\n") if line.strip()]
    except (ValueError, csv.Error) as fault:
        raise DemurError(f"{path}: cannot be read: {fault}", "check that the file is whole and UTF-8") from fault
    raise DemurError(f"{path}: unknown kind of table", "give a .csv or .jsonl file (both also as .gz)")


def _verdicts(path: Path, rows: list[Mapping[str, Any]]) -> dict[tuple[str, str], Verdict]:
    found: dict[tuple[str, str], Verdict] = {}
    faults = [] if rows else ["no rows"]
    for number, row in enumerate(rows, start=1):
        fault = _fault(row)
        if fault:
            faults.append(f"row {number}: {fault}")
            continue
        key = (str(row.get("response_sha256") or _sha256(row["response"])), str(row.get("prompt") or ""))
        verdict = _verdict(row)
        if found.setdefault(key, verdict) != verdict:
            faults.append(f"row {number}: another label than before for the same response")
    raise_all(str(path), faults, "columns: label, response or response_sha256, and maybe prompt and p_refused")
    return found


def _fault(row: Mapping[str, Any]) -> str:
    if not isinstance(row, Mapping):
        return "no JSON object"
    if row.get("label") not in LABELS[:3]:
        return f"label {row.get('label')!r} is none of {', '.join(LABELS[:3])}"
    if not row.get("response_sha256") and not isinstance(row.get("response"), str):
        return "neither response nor response_sha256"
    try:
        p = float(row.get("p_refused") or 0)
    except (TypeError, ValueError, OverflowError):
        return f"p_refused {row['p_refused']!r} is no number"
    return "" if 0 <= p <= 1 else f"p_refused {p} is not a probability"


def _verdict(row: Mapping[str, Any]) -> Verdict:
    label: Label = next(label for label in LABELS if label == row["label"])
    given = row.get("p_refused")
    p = float(label != "complied") if given in (None, "") else float(given)
    return Verdict(label, None, p, "from the file")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
