"""The journal of a run: one JSON object a line, only ever appended, synced to disk before the run goes on.

Every event has ``event`` and ``at`` (UTC, ISO 8601). The events and their other keys:

=================  ====================================================================================================
``started``        ``responses`` and ``batches`` that the whole run consists of; ``package_version``
``resumed``        ``kept`` responses already there, ``missing`` ones and ``errors`` to retry; ``package_version``
``batch_answered`` ``batch`` (number in the plan), ``keys`` ([prompt id, sample] of each response, in plan order),
                   ``started_at``, ``latency_s`` of the whole batch, ``errors``, and ``recovered``: true where the
                   batch was saved but the run was killed before it could say so
``response_error`` ``prompt_id``, ``sample``, ``error``: this response failed; it is retried when the run is resumed
``unit_measured``  ``unit`` of a stress test, ``cells`` measured, ``seconds``
``interrupted``    ``reason``, ``kept`` responses; the run was stopped in good order and can be resumed
``merged``         ``shard``, its ``responses`` and the ``sha256`` of its table; this run was made of finished shards
``finished``       ``responses``, ``errors``, ``sha256`` of ``responses/responses.parquet``
=================  ====================================================================================================

A line counts once its newline is written. What follows the last newline was cut off by a kill; reading ignores it and
the next writer removes it. The journal tells what happened and how long it took; which responses exist is told by the
Parquet files alone. Latency and start times are only here, so that the table of responses depends on nothing else
than the responses.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from .errors import DemurError
from .untrusted import parse_json

__all__ = ["EVENTS", "Journal", "last_event", "now", "read_journal"]

EVENTS = frozenset(
    {"started", "resumed", "batch_answered", "response_error", "unit_measured", "interrupted", "merged", "finished"}
)


def now() -> str:
    """This moment in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """The open journal of the one process that works on a run; opening it locks the run folder.

    Args:
        path: ``journal.jsonl`` of the run folder; made where it is missing.

    Raises:
        DemurError: another process holds the lock, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The handle outlives this function on purpose: it carries the lock.
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as fault:
            raise DemurError(f"{path}: cannot write: {fault.strerror}", "choose a folder that you may write") from fault
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            self._file.close()
            raise DemurError(
                f"{path.parent}: another process is working on this run",
                "wait until it ends, or choose another folder with --out",
            ) from fault
        self._cut_tail()

    def _cut_tail(self) -> None:
        """Remove what follows the last newline: the remains of an event that was cut off."""
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)

    def append(self, event: str, **details: object) -> None:
        """Write one event and wait until it is on disk.

        Raises:
            DemurError: the disk is full or the file cannot be written.
        """
        self.extend([{"event": event, **details}])

    def extend(self, events: Sequence[Mapping[str, object]]) -> None:
        """Write events that belong together at once and wait until they are on disk.

        Args:
            events: each with its name in ``event``.

        Raises:
            DemurError: the disk is full or the file cannot be written.
        """
        unknown = [event["event"] for event in events if event["event"] not in EVENTS]
        if unknown:
            raise ValueError(f"unknown journal event {unknown[0]!r}")
        at = now()
        lines = [
            json.dumps({"event": event["event"], "at": at, **event}, ensure_ascii=False, allow_nan=False) + "\n"
            for event in events
        ]
        try:
            self._write("".join(lines).encode("utf-8"))
            os.fsync(self._file.fileno())
        except OSError as fault:
            raise DemurError(
                f"{self.path}: cannot write: {fault.strerror}", "free space, then run the same command again to go on"
            ) from fault

    def _write(self, data: bytes) -> None:
        """Write all bytes; where the disk fills up in between, take the half-written line back."""
        end = self._file.seek(0, os.SEEK_END)
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(end)
            raise

    def close(self) -> None:
        """Release the lock."""
        self._file.close()

    def __enter__(self) -> Self:
        """Give the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every whole event of a journal, in order; a cut-off last line is ignored.

    Raises:
        DemurError: the file is missing, or a line before the last is no event.
    """
    return list(_events(path))


def last_event(path: Path) -> dict[str, Any]:
    """The last whole event of a journal, after every one was read; empty where there is none.

    Raises:
        DemurError: as :func:`read_journal`.
    """
    last: dict[str, Any] = {}
    for event in _events(path):
        last = event
    return last


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DemurError(f"{path}: cannot read: {fault.strerror}", "check the path") from fault
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            event = parse_json(line)
        except ValueError as fault:
            raise DemurError(f"{path}:{number}: not a journal event", "restore the file from a copy") from fault
        if not isinstance(event, dict) or event.get("event") not in EVENTS:
            raise DemurError(f"{path}:{number}: not a journal event", "restore the file from a copy")
        yield event
