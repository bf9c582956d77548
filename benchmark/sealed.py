"""What lies in a sealed file, and opening one with a key, in memory only."""

import getpass
import json
import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyrage

from .errors import DemurError
from .manifest import FOLDER
from .pairs import Pair
from .records import SIDES, Split

__all__ = [
    "HOW_TO_ASK",
    "CopiedText",
    "Sealed",
    "decrypt",
    "open_sealed",
    "pack_copy",
    "pack_pairs",
    "passphrase",
    "read_identity",
    "unpack",
]

HOW_TO_ASK = (
    "to ask for access, make a key with `age-keygen -o demur.key` (or `demur access keygen demur.key`), request access "
    "on the dataset's Hub page and give the public key (age1...); then set DEMUR_IDENTITY to the key file and "
    "DEMUR_COPY to the copy that you are sent"
)


@dataclass(frozen=True, slots=True)
class CopiedText:
    """One prompt of a granted copy.

    Attributes:
        form: which surface form the copy has; ``common`` where it is the set's own wording.
    """

    id: str
    text: str
    form: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The content of a sealed file: the pairs themselves (maintainers), or one recipient's copy of the prompts."""

    split: Split
    version: str
    canary: str
    pairs: tuple[Pair, ...] = ()
    recipient: str = ""
    texts: tuple[CopiedText, ...] = ()


def pack_pairs(split: Split, version: str, canary: str, pairs: Sequence[Pair]) -> bytes:
    """The plain content of a sealed file that holds pairs; to be encrypted at once."""
    entries = [
        {
            "id": pair.id,
            "hazard": pair.hazard,
            "subcategory": pair.subcategory,
            "twin_type": pair.twin_type,
            "intent": pair.intent,
            **{side: pair.texts[side] for side in SIDES},
        }
        for pair in pairs
    ]
    return _pack({"split": split, "version": version, "canary": canary, "pairs": entries})


def pack_copy(split: Split, version: str, canary: str, recipient: str, texts: Sequence[CopiedText]) -> bytes:
    """The plain content of one recipient's copy; to be encrypted at once."""
    rows = [[copied.id, copied.text, copied.form] for copied in texts]
    return _pack({"split": split, "version": version, "canary": canary, "recipient": recipient, "texts": rows})


def _pack(value: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps({"format": 1, **value}).encode(), level=9)


def unpack(content: bytes, name: str) -> Sealed:
    """Read the plain content of a sealed file.

    Raises:
        DemurError: it was made by another version of the format, or is no content of ours.
    """
    try:
        raw = json.loads(zlib.decompress(content))
        if raw["format"] != 1:
            raise DemurError(f"{name}: sealed in format {raw['format']}, this demur reads 1", "install a newer demur")
        split = raw["split"]
        pairs = tuple(
            Pair(
                entry["id"],
                entry["hazard"],
                entry["subcategory"],
                entry["twin_type"],
                entry["intent"],
                split,
                {side: entry[side] for side in SIDES},
                name,
            )
            for entry in raw.get("pairs", ())
        )
        texts = tuple(CopiedText(*row) for row in raw.get("texts", ()))
        return Sealed(split, raw["version"], raw["canary"], pairs, raw.get("recipient", ""), texts)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error):
        # Without the cause: its text could quote the content.
        raise DemurError(f"{name}: opened, but its content is not a sealed prompt file", "get the file again") from None


def read_identity(file: Path | None = None) -> list[pyrage.x25519.Identity]:
    """The keys in a file, that which ``DEMUR_IDENTITY`` names where none is given.

    A file that is itself encrypted under a passphrase (as ``maintainer.identity.age``) is opened with the passphrase
    in the file that ``DEMUR_PASSPHRASE_FILE`` names.

    Raises:
        DemurError: the variable is missing, or the file cannot be read or holds no key.
    """
    named = os.environ.get("DEMUR_IDENTITY") if file is None else str(file)
    if not named:
        raise DemurError("the sealed splits need a key, and DEMUR_IDENTITY is not set", HOW_TO_ASK)
    where = f"DEMUR_IDENTITY={named}" if file is None else named
    if "AGE-SECRET-KEY-" in named.upper():
        raise DemurError("DEMUR_IDENTITY holds a secret key itself", "write the key into a file and name the file")
    path = Path(named).expanduser()
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DemurError(
            f"{where}: cannot read: {fault.strerror}", f"name an age identity file; {HOW_TO_ASK}"
        ) from fault
    if content.startswith(b"age-encryption.org/"):
        content = _with_passphrase(content, passphrase())
    lines = [line.strip() for line in content.decode("utf-8", errors="replace").splitlines()]
    try:
        keys = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        keys = []
    if not keys:
        raise DemurError(f"{where}: not an age identity file (a line AGE-SECRET-KEY-1...)", HOW_TO_ASK) from None
    return keys


@lru_cache(maxsize=4)  # the passphrase is stretched on purpose, which takes about a second each time
def _with_passphrase(content: bytes, phrase: str) -> bytes:
    try:
        opened: bytes = pyrage.passphrase.decrypt(content, phrase)
    except pyrage.DecryptError as fault:
        if "excessive work" in str(fault).lower():
            # age measures the machine's speed first, and takes a busy machine for one that the work is too much for.
            raise DemurError(
                "DEMUR_IDENTITY: the machine is too busy to stretch the passphrase", "try again when it does less"
            ) from None
        raise DemurError(
            "DEMUR_IDENTITY: the passphrase does not open this identity, or the file is damaged",
            "check DEMUR_PASSPHRASE_FILE, or restore the file from git",
        ) from None
    return opened


def passphrase() -> str:
    """The maintainer's passphrase: from the file that ``DEMUR_PASSPHRASE_FILE`` names, else asked at the terminal."""
    named = os.environ.get("DEMUR_PASSPHRASE_FILE")
    if not named:
        if sys.stdin is not None and sys.stdin.isatty():
            return getpass.getpass("Passphrase of the maintainer's identity: ")
        raise DemurError(
            "the maintainer's identity needs a passphrase, and DEMUR_PASSPHRASE_FILE is not set",
            "set it to the path of a file that holds the passphrase",
        )
    try:
        return Path(named).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        # Without the value, which may be the passphrase itself, and without the cause, which has both.
        raise DemurError(
            "DEMUR_PASSPHRASE_FILE: cannot read the file that it names", "name a readable UTF-8 file"
        ) from None


def open_sealed(split: Split) -> Sealed:
    """Open the sealed file of a split, in memory.

    The file is the copy that ``DEMUR_COPY`` names, else the one in the package, which only maintainers can open.

    Raises:
        DemurError: no key, a key that is not among the recipients, or a damaged file.
    """
    keys = read_identity()
    named = os.environ.get("DEMUR_COPY")
    path = Path(named).expanduser() if named else FOLDER / f"{split}.age"
    content = decrypt(path, keys)
    sealed = unpack(content, str(path))
    if sealed.split != split:
        raise DemurError(f"{path}: holds split {sealed.split}, not {split}", f"point DEMUR_COPY at your {split} copy")
    return sealed


def decrypt(path: Path, keys: Sequence[pyrage.x25519.Identity]) -> bytes:
    """The plain content of an age file; faults say whether the key or the file is at fault."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DemurError(f"{path}: cannot read: {fault.strerror}", HOW_TO_ASK) from fault
    try:
        opened: bytes = pyrage.decrypt(content, list(keys))
    except pyrage.DecryptError as fault:
        if "no matching keys" in str(fault).lower():
            raise DemurError(f"{path}: not sealed to the key in DEMUR_IDENTITY", HOW_TO_ASK) from None
        raise DemurError(
            f"{path}: damaged, or not an age file ({fault})",
            "get the file again; `git checkout` restores the package's",
        ) from None
    return opened
