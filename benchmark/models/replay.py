"""Responses that were made elsewhere, read from a file (JSON Lines, CSV or Parquet)."""

import csv
import hashlib
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..errors import DemurError, raise_all
from ..files import parquet_columns, parquet_rows
from ..records import FINISH_REASONS, FinishReason, ModelInfo, Request, Response, Sampling
from ..untrusted import json_lines
from .base import in_order
from .thinking import split_thinking

__all__ = ["ReplayModel"]

BATCH_RESPONSES = 2048
FORMATS = (".jsonl", ".csv", ".parquet")


class _Rows:
    """The rows of a file. Their texts lie in a temporary file: a million long ones need little memory."""

    def __init__(self) -> None:
        self._texts, self._ends = tempfile.TemporaryFile(), array("q", [0])  # noqa: SIM115 (kept as long as the rows)
        weakref.finalize(self, self._texts.close)
        self._lines, self._reasons = array("q"), array("b")
        self._errors: dict[int, str] = {}
        self.by_prompt: dict[str, dict[int, int]] = {}

    def add(self, prompt_id: str, sample: int, line: int, fields: Mapping[str, Any]) -> None:
        number = len(self._lines)
        reason = str(fields["finish_reason"]) if _given(fields.get("finish_reason")) else "stop"
        if reason == "error":
            self._errors[number] = str(fields["error"]) if _given(fields.get("error")) else "the file gives no cause"
        text = str(fields["text"]).encode("utf-8", "surrogatepass")
        self._texts.write(text)
        self._ends.append(self._ends[-1] + len(text))
        self._lines.append(line)
        self._reasons.append(FINISH_REASONS.index(cast("FinishReason", reason)))
        self.by_prompt.setdefault(prompt_id, {})[sample] = number

    def line(self, prompt_id: str, sample: int) -> int:
        return self._lines[self.by_prompt[prompt_id][sample]]

    def response(self, prompt_id: str, sample: int) -> Response:
        number = self.by_prompt[prompt_id][sample]
        self._texts.seek(self._ends[number])
        text = self._texts.read(self._ends[number + 1] - self._ends[number]).decode("utf-8", "surrogatepass")
        reason = FINISH_REASONS[self._reasons[number]]
        return Response(prompt_id, sample, split_thinking(text)[1], reason, self._errors.get(number, ""))


class ReplayModel:
    """Answers prompts with the responses of a file.

    The file has the columns ``prompt_id`` and ``text``, and where wanted ``sample`` (from 0; without it the responses
    to a prompt are numbered in their order), ``finish_reason`` (else ``stop``) and ``error``. A thinking part in
    ``<think>`` tags is split off; its length in tokens is not known and stays 0.

    Args:
        path: a ``.jsonl``, ``.csv`` or ``.parquet`` file, UTF-8.
        model_id: the name of the model that answered; the file's name where it is not given.

    Raises:
        DemurError: the file cannot be read or breaks the format; all its faults at once, with their lines.
    """

    def __init__(self, path: Path | str, *, model_id: str | None = None) -> None:
        self.path = Path(path)
        self._place = "row" if self.path.suffix == ".parquet" else "line"
        self._numbered = not any(_given(fields.get("sample")) for _line, fields in _read(self.path))
        self._rows, self._doubled = self._index(_read(self.path))
        with self.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self._info = ModelInfo(id=model_id or self.path.stem, revision=f"sha256:{digest}", backend="replay")

    @property
    def info(self) -> ModelInfo:
        """Name as given, revision by the file's content; everything else is not known."""
        return self._info

    @property
    def template_sha256(self) -> str | None:
        """Not known."""
        return None

    def plan(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Request]]:  # noqa: ARG002 (protocol)
        """Cut the requests into batches of about 2,048 responses, after the file was held against them.

        Raises:
            DemurError: missing and duplicate responses and unknown prompts, all at once, with their lines.
        """
        self._compare(requests)
        return in_order(requests, BATCH_RESPONSES)

    def respond(self, batch: Sequence[Request], sampling: Sampling) -> Iterator[Response]:  # noqa: ARG002 (protocol)
        """Give the file's responses."""
        for request in batch:
            for sample in request.samples:
                yield self._rows.response(request.prompt.id, sample)

    def _index(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[_Rows, list[str]]:
        """Responses by prompt and sample, and which are there more than once."""
        found, problems, doubled, empty = _Rows(), list[str](), list[str](), True
        counts: Counter[str] = Counter()
        for line, fields in rows:
            empty = False
            faults = list(_faults(fields, numbered=self._numbered))
            problems += [f"{self._place} {line}: {fault}" for fault in faults]
            if faults:
                continue
            prompt_id = str(fields["prompt_id"])
            sample = counts[prompt_id] if self._numbered else int(fields["sample"])
            counts[prompt_id] += 1
            if sample in found.by_prompt.get(prompt_id, {}):
                first = found.line(prompt_id, sample)
                doubled.append(
                    f"{self._place} {line}: {prompt_id} sample {sample} is there already ({self._place} {first})"
                )
                continue
            found.add(prompt_id, sample, line, fields)
        if empty:
            raise DemurError(f"{self.path}: no responses in it", "write one response a row, then give the file again")
        raise_all(str(self.path), problems, "correct these rows, then give the file again")
        return found, doubled

    def _compare(self, requests: Sequence[Request]) -> None:
        wanted: dict[str, set[int]] = {}
        for request in requests:
            wanted.setdefault(request.prompt.id, set()).update(request.samples)
        there = self._rows.by_prompt
        wrong = []
        for prompt_id, samples in there.items():
            for sample in samples.keys() - wanted.get(prompt_id, set()):
                what = f"{prompt_id} sample {sample} was not asked for"
                known = what if prompt_id in wanted else f"unknown prompt id {prompt_id!r}"
                wrong.append((self._rows.line(prompt_id, sample), known))
        problems = [*self._doubled, *(f"{self._place} {line}: {what}" for line, what in sorted(wrong))]
        problems += [
            f"missing: {request.prompt.id} sample {sample}"
            for request in requests
            for sample in request.samples
            if sample not in there.get(request.prompt.id, {})
        ]
        how = "; samples were numbered in the order of the rows" if self._numbered else ""
        raise_all(
            f"{self.path} does not hold exactly one response per prompt and sample{how}",
            problems,
            "correct the file, or choose the split, the part of it (--limit-pairs, --shard) and the number of samples "
            "that it was made with",
        )


def _faults(fields: Mapping[str, Any], *, numbered: bool) -> Iterator[str]:
    if not _given(fields.get("prompt_id")):
        yield "no prompt_id"
    if not isinstance(fields.get("text"), str):
        yield "text is not a string"
    if not numbered:
        sample = fields.get("sample")
        try:
            whole = not isinstance(sample, bool) and float(cast("Any", sample)) == int(cast("Any", sample)) >= 0
        except (TypeError, ValueError):
            whole = False
        if not whole:
            yield f"sample {sample!r} is not a number from 0"
    reason = fields.get("finish_reason")
    if _given(reason) and reason not in FINISH_REASONS:
        yield f"finish_reason {reason!r} is none of {', '.join(FINISH_REASONS)}"
    elif _given(fields.get("error")) and reason != "error":
        yield "an error, but finish_reason is not 'error'"


def _given(value: object) -> bool:
    return value is not None and value != ""


def _read(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows as (line or row number from 1, fields)."""
    if path.suffix not in FORMATS:
        raise DemurError(f"{path}: not a file of responses", f"give a file that ends in {', '.join(FORMATS)}")
    if path.suffix == ".parquet":
        _check_columns(path, parquet_columns(path))
        yield from enumerate(parquet_rows(path), start=1)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from _csv_rows(path, lines) if path.suffix == ".csv" else json_lines(path, lines)
    except UnicodeDecodeError as fault:
        raise DemurError(f"{path}: not UTF-8 at byte {fault.start}", "save the file as UTF-8") from fault
    except OSError as fault:
        raise DemurError(f"{path}: cannot read: {fault.strerror}", "check the path and its permissions") from fault


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(lines, strict=True)
    line = 1
    try:
        _check_columns(path, reader.fieldnames or [])
        line = reader.line_num + 1
        for row in reader:
            if None in row or None in row.values():
                raise DemurError(f"{path}:{line}: not as many fields as columns", "quote texts that hold commas")
            yield line, row
            line = reader.line_num + 1
    except csv.Error as fault:
        raise DemurError(f"{path}:{line}: not valid CSV: {fault}", "write the file again") from fault


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in ("prompt_id", "text") if name not in columns]
    raise_all(str(path), [f"no column {name}" for name in missing], "name the columns prompt_id, sample, text")
