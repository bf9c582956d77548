"""``prompts/manifest.json``: what the prompt set consists of, without any text."""

import hashlib
import json
import uuid
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import DemurError
from .files import write_json
from .pairs import Pair
from .records import SPLITS, Split
from .schema import check

__all__ = [
    "FOLDER",
    "NOT_HASHED",
    "file_hashes",
    "manifest",
    "new_manifest",
    "read_manifest",
    "with_split",
    "write_manifest",
]

FOLDER = Path(str(files(__package__).joinpath("prompts")))

# Files that change with every grant without a change of the set; the ledger is hash-chained by itself.
NOT_HASHED = frozenset({"manifest.json", "recipients.json", "ledger.jsonl", "ledger.head.json"})

_EMPTY = {"pairs": 0, "prompts": 0, "sha256": hashlib.sha256().hexdigest()}


@cache
def manifest() -> dict[str, Any]:
    """Version, canary, counts and hashes per split, and every pair's categories.

    Raises:
        DemurError: the file is missing or damaged.
    """
    return read_manifest(FOLDER)


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json`` of a prompts folder, checked against its schema."""
    path = folder / "manifest.json"
    fix = "install the package again; a maintainer runs `demur prompts manifest`"
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise DemurError(f"{path}: the manifest is missing or not JSON", fix) from fault
    check(loaded, "demur.benchmark", "manifest", str(path), fix)
    return loaded


def new_manifest(version: str, released: str) -> dict[str, Any]:
    """A manifest of nothing yet, with a canary of its own."""
    return {
        "format": 1,
        "version": version,
        "released": released,
        "canary": f"demur-canary-{uuid.uuid4()}",
        "splits": {split: dict(_EMPTY) for split in SPLITS},
        "files": {},
        "pairs": [],
    }


def with_split(listed: dict[str, Any], split: Split, pairs: list[Pair], n_prompts: int, sha256: str) -> dict[str, Any]:
    """The manifest with one split's counts, hash and pairs put in place of what it said of that split."""
    kept = [entry for entry in listed["pairs"] if entry["split"] != split]
    added = [
        {
            "id": pair.id,
            "split": pair.split,
            "hazard": pair.hazard,
            "subcategory": pair.subcategory,
            "twin_type": pair.twin_type,
        }
        for pair in pairs
    ]
    entries = sorted(kept + added, key=lambda entry: (SPLITS.index(entry["split"]), entry["hazard"], entry["id"]))
    splits = {**listed["splits"], split: {"pairs": len(pairs), "prompts": n_prompts, "sha256": sha256}}
    return {**listed, "splits": splits, "pairs": entries}


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a prompts folder by its path, except those of :data:`NOT_HASHED`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if name not in NOT_HASHED
    }


def write_manifest(listed: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the manifest with the hashes of the files as they lie in ``folder``, and forget the one in memory."""
    made = {**listed, "files": file_hashes(folder)}
    check(made, "demur.benchmark", "manifest", "the new manifest", "this is a fault in demur; please report it")
    write_json(folder / "manifest.json", made)
    manifest.cache_clear()
