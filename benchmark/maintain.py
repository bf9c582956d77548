"""What a maintainer does to the set itself: take in the public files, and keep the manifest true."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import DemurError, raise_all
from .files import write_text
from .manifest import FOLDER, new_manifest, read_manifest, with_split, write_manifest
from .pairs import Pair, pair_files, read_pair_files
from .prompts import expand, set_hash
from .records import Split

__all__ = ["adopt_public", "describe", "read_split", "rebuild_manifest"]


def read_split(folder: Path, split: Split) -> list[Pair]:
    """The pairs in a folder of YAML files (or in its subfolder named as the split), all of one split.

    Raises:
        DemurError: no files, faults in them, or pairs of another split.
    """
    inner = folder / split
    paths = pair_files(inner if inner.is_dir() else folder)
    if not paths:
        raise DemurError(f"{folder}: no YAML files of pairs", "name the folder that holds <hazard>.yaml")
    pairs = read_pair_files(paths)
    wrong = [f"{pair.place}: pair {pair.id} is of split {pair.split}" for pair in pairs if pair.split != split]
    raise_all(f"files of split {split}", wrong, "move each to its split's folder")
    return pairs


def describe(listed: dict[str, Any], split: Split, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The manifest with what it says of one split made true for these pairs."""
    prompts = list(expand(pairs, listed["version"], listed["canary"]))
    return with_split(listed, split, list(pairs), len(prompts), set_hash(prompts))


def adopt_public(source: Path, canary: str, folder: Path = FOLDER) -> list[Pair]:
    """Put the public files of ``source`` into the set, each under a comment line with the canary.

    Files of the set that ``source`` no longer has are removed; ``source`` may be the set itself.
    """
    pairs = read_split(source, "public")
    inner = source / "public"
    paths = pair_files(inner if inner.is_dir() else source)
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if "demur-canary-" not in line)
        stamped, place = f"# Benchmark data, not for training: {canary}\n{text}", folder / "public" / path.name
        if not place.is_file() or place.read_bytes() != stamped.encode():
            write_text(place, stamped)
    for old in pair_files(folder / "public"):
        if old.name not in {path.name for path in paths}:
            old.unlink()
    return pairs


def rebuild_manifest(source: Path | None = None, version: str | None = None, folder: Path = FOLDER) -> dict[str, Any]:
    """Make ``manifest.json`` say what lies in the prompts folder.

    Args:
        source: folder with ``public/*.yaml`` to take in; None takes those that lie there.
        version: semantic version of the set; None keeps it. The sealed splits must be sealed again after a change,
            since each carries its version.
        folder: the prompts folder.

    Returns:
        The manifest.

    Raises:
        DemurError: faults in the files, or a sealed split of another version.
    """
    listed = (
        read_manifest(folder) if (folder / "manifest.json").exists() else new_manifest(version or "1.0.0", _today())
    )
    if version is not None and version != listed["version"]:
        listed = {**listed, "version": version, "released": _today()}
    listed = describe(listed, "public", adopt_public(source or folder, listed["canary"], folder))
    write_manifest(listed, folder)
    return read_manifest(folder)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
