"""The ledger of grants: one JSON object a line, only ever appended, each line sealed by the hash of the one before."""

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import DemurError, raise_all
from .files import read_json, write_json
from .untrusted import parse_json

__all__ = ["ACTIONS", "GENESIS", "Entry", "append", "head", "read_ledger"]

ACTIONS = ("sealed", "granted", "revoked")
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Attributes:
        number: from 1.
        at: UTC, ISO 8601.
        action: one of :data:`ACTIONS`.
        name: who was granted or revoked; empty for ``sealed``.
        key: their public key.
        split: which split.
        version: prompt-set version.
        conditions: SHA-256 of the use conditions that they accepted; empty where none were asked.
        file: SHA-256 of the sealed file that was written; empty where none was.
        previous: hash of the entry before, :data:`GENESIS` for the first.
        hash: SHA-256 of all the rest.
    """

    number: int
    at: str
    action: str
    name: str
    key: str
    split: str
    version: str
    conditions: str
    file: str
    previous: str
    hash: str


def _hash(fields: dict[str, Any]) -> str:
    kept = {name: value for name, value in fields.items() if name != "hash"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _head_file(path: Path) -> Path:
    return path.with_name("ledger.head.json")


def head(path: Path) -> str:
    """Hash of the last entry, as noted beside the ledger; :data:`GENESIS` for none."""
    noted = _head_file(path)
    if not noted.exists():
        return GENESIS
    value = read_json(noted)
    if not isinstance(value, dict) or not isinstance(value.get("head"), str):
        raise DemurError(f"{noted}: names no head", "restore it from git")
    return str(value["head"])


def read_ledger(path: Path) -> list[Entry]:
    """Every entry, after the whole chain was checked.

    Raises:
        DemurError: a line was edited, removed, added or cut off; every such line is named.
    """
    try:
        content = path.read_bytes().decode("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as fault:
        raise DemurError(f"{path}: cannot read it as UTF-8", "restore it from git") from fault
    entries: list[Entry] = []
    faults: list[str] = []
    previous = GENESIS
    for number, line in enumerate(content.split("\n")[:-1], start=1):
        try:
            entry = Entry(**parse_json(line))
        except (ValueError, TypeError):
            faults.append(f"{path}:{number}: not a ledger entry")
            continue
        fields = {name: getattr(entry, name) for name in Entry.__slots__}
        if entry.hash != _hash(fields):
            faults.append(f"{path}:{number}: the entry was edited: its hash does not match")
        if entry.previous != previous or entry.number != number:
            faults.append(f"{path}:{number}: an entry before it was edited, removed or added")
        previous = entry.hash
        entries.append(entry)
    noted = head(path)
    cut = bool(content) and not content.endswith("\n")
    # An append that was killed leaves a cut line after the noted head, or a whole one: the next append mends both.
    if cut and previous != noted:
        faults.append(f"{path}:{content.count(chr(10)) + 1}: the last line was cut off")
    unnoted = bool(entries) and entries[-1].previous == noted
    if not faults and previous != noted and not unnoted:
        faults.append(f"{path}: ends at {previous[:12]}, but ledger.head.json notes {noted[:12]}: entries are missing")
    raise_all(
        "the ledger of grants", faults, "restore ledger.jsonl and ledger.head.json from git, then look who did it"
    )
    return entries


def _mend_tail(path: Path) -> None:
    """Remove what an append that was killed left after the last newline."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def append(
    path: Path, action: str, *, name: str, key: str, split: str, version: str, conditions: str, file: str
) -> Entry:
    """Add one entry and wait until it is on disk. The chain is checked first; a broken one is never continued.

    Raises:
        DemurError: the chain is broken, or the file cannot be written.
    """
    if action not in ACTIONS:
        raise ValueError(f"unknown ledger action {action!r}")
    try:
        with path.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            entries = read_ledger(path)
            _mend_tail(path)
            fields: dict[str, Any] = {
                "number": len(entries) + 1,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "action": action,
                "name": name,
                "key": key,
                "split": split,
                "version": version,
                "conditions": conditions,
                "file": file,
                "previous": entries[-1].hash if entries else GENESIS,
            }
            entry = Entry(**fields, hash=_hash(fields))
            handle.write(json.dumps({**fields, "hash": entry.hash}, ensure_ascii=False).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
            write_json(_head_file(path), {"entries": entry.number, "head": entry.hash})
    except OSError as fault:
        raise DemurError(f"{path}: cannot write: {fault.strerror}", "free space or mend the permissions") from fault
    return entry
