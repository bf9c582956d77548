"""What strangers wrote: JSON, packed files and text for a terminal. Cheap to import."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import DemurError

__all__ = ["MOST_RATIO", "SMALL_BYTES", "json_lines", "parse_json", "unpacked", "visible"]

SMALL_BYTES = 64 * 2**20
"""What unpacks to no more than this is never taken for a bomb."""
MOST_RATIO = 200
"""Text packs to about a quarter, very uniform text to a fiftieth; what unpacks by more than this is a bomb."""
_STEP = 2**20

# Control characters but line feed; and what is invisible or changes the order of the text beside it.
_STEERS = re.compile(
    "([\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]+)"
)


class _Codes(dict[str, str]):
    """Each character's code point, made once: a run of millions is a look-up each."""

    def __missing__(self, char: str) -> str:
        self[char] = f"<U+{ord(char):04X}>"
        return self[char]


_CODES = _Codes()


def visible(text: str) -> str:
    """A text that cannot steer a terminal or hide its order: control and direction characters as their code points.

    Tabs become four spaces, Windows line ends plain ones.
    """
    pieces = _STEERS.split(text.replace("\r\n", "\n").replace("\t", "    "))
    code = _CODES.__getitem__
    # Every other piece is a run of such characters. A call for each of a million runs would take three times as long.
    pieces[1::2] = [code(run) if len(run) == 1 else "".join(map(code, run)) for run in pieces[1::2]]
    return "".join(pieces)


def parse_json(text: str | bytes) -> Any:
    """One JSON value, as of a line.

    Raises:
        ValueError: it is none, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as fault:
        raise ValueError("nested too deeply") from fault


def json_lines(path: Path, lines: Iterable[str | bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines with the numbers of their lines; blank lines are left out.

    Raises:
        DemurError: a line is no JSON object.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as fault:
            raise DemurError(f"{path}:{number}: not valid JSON: {fault}", "write one JSON object a line") from fault
        if not isinstance(row, dict):
            raise DemurError(f"{path}:{number}: not a JSON object", "write one JSON object a line")
        yield number, row


def _bomb(path: Path) -> DemurError:
    return DemurError(f"{path}: unpacks to more than {MOST_RATIO} times its size", "unpack it yourself if you trust it")


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in ``.gz``.

    Raises:
        DemurError: it cannot be read, is damaged, or is small and unpacks to something huge.
    """
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        limit = max(SMALL_BYTES, MOST_RATIO * path.stat().st_size)
        parts = []
        with gzip.open(path) as file:
            while part := file.read(_STEP):
                parts.append(part)
                limit -= len(part)
                if limit < 0:
                    raise _bomb(path)
    except (OSError, EOFError, zlib.error) as fault:
        what = getattr(fault, "strerror", None) or fault
        raise DemurError(f"{path}: cannot be read: {what}", "check the path and that the file is whole") from fault
    return b"".join(parts)
