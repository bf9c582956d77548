"""Single responses of a batch in flight, kept as they come where they do not depend on the rest of the batch."""

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path

from .errors import DemurError
from .parts import Key
from .records import Response
from .schema import problems
from .untrusted import parse_json

__all__ = ["Spool"]


class Spool:
    """A JSON Lines file per batch in flight, synced at each response, until the batch is whole and becomes a part.

    Errors are not kept: they are asked again. A line that was cut off, or that is damaged, is as good as missing.

    Args:
        folder: ``responses`` of the run folder.
        plan: SHA-256 of the plan that the batches are numbered in.
    """

    def __init__(self, folder: Path, plan: str) -> None:
        self._folder, self._mark = folder, plan[:12]

    def path(self, batch: int) -> Path:
        """Where the responses of a batch lie."""
        return self._folder / f"flight-{batch:06d}-{self._mark}.jsonl"

    def read(self, batch: int) -> dict[Key, Response]:
        """What is there of a batch."""
        try:
            content = self.path(batch).read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise DemurError(f"{self.path(batch)}: cannot read: {fault.strerror}", "check its permissions") from fault
        found: dict[Key, Response] = {}
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            try:
                fields = parse_json(line)
                if fields.pop("crc", None) != _checksum(fields) or problems(fields, "demur.benchmark", "response"):
                    continue
                row = Response(**fields)
            except (ValueError, TypeError, AttributeError):
                continue
            found[row.prompt_id, row.sample] = row
        return found

    def append(self, batch: int, response: Response) -> None:
        """Keep one response; it is on disk when this returns.

        Raises:
            DemurError: the disk is full or the file cannot be written.
        """
        fields = asdict(response)
        fields["crc"] = _checksum(fields)
        line = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            with self.path(batch).open("a+b", buffering=0) as file:
                end = _cut_tail(file.fileno())
                written = 0
                try:
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as fault:
            raise DemurError(
                f"{self.path(batch)}: cannot write: {fault.strerror}",
                "free space, then run the same command again to go on",
            ) from fault

    def drop(self, batch: int) -> None:
        """Forget a batch that is saved as a part."""
        self.path(batch).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all batches."""
        for leftover in self._folder.glob("flight-*.jsonl"):
            leftover.unlink()


def _checksum(fields: dict[str, object]) -> int:
    """What tells a line whose bytes changed on the disk from the one that was written."""
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _cut_tail(file: int) -> int:
    """Remove a last line that was cut off, so that the next one does not grow onto it; the file's new length."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    end = os.pread(file, size, 0).rfind(b"\n") + 1
    os.ftruncate(file, end)
    return end
