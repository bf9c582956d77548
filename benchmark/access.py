"""Sealing the splits, granting marked copies, taking grants back, and finding whose copy leaked."""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyrage

from .errors import DemurError
from .files import write_atomic
from .ledger import Entry, append, read_ledger
from .maintain import describe, read_split
from .manifest import FOLDER, read_manifest, write_manifest
from .pairs import Pair
from .prompts import from_sealed
from .recipients import Person, Recipients, public_key, read_recipients, write_recipients
from .records import Prompt, Split
from .sealed import Sealed, decrypt, pack_copy, pack_pairs, passphrase, read_identity, unpack
from .watermark import copy_for

__all__ = ["CANNOT_UNDO", "SEALED_SPLITS", "AccessDesk", "names_by_key", "new_identity"]

SEALED_SPLITS: tuple[Split, ...] = ("gated", "heldout")

CANNOT_UNDO = (
    "what cannot be undone: a copy that was already opened stays readable to who opened it, and so does every commit "
    "and Hub revision sealed to their key; they get no later version, and their marks still name them in a leak; a "
    "former maintainer also knows the key of the marks, so a leak from one can imitate any copy"
)


def new_identity(path: Path) -> str:
    """Make an age key pair; the file with the secret key is readable by its owner only.

    Returns:
        The public key.

    Raises:
        DemurError: the file exists already: a key is never overwritten.
    """
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    mend = "choose a path that is free"
    if path.exists():
        raise DemurError(f"{path}: cannot make the key file: File exists", mend)
    try:
        # Written beside its place: a key that was cut off would bar the place for a whole one.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as fault:
        raise DemurError(f"{path}: cannot make the key file: {fault.strerror}", mend) from fault
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"# public key: {public}\n{identity}\n")
            file.flush()
            os.fsync(file.fileno())
        _move_to_free(temporary, path)
    except OSError as fault:
        raise DemurError(f"{path}: cannot make the key file: {fault.strerror}", mend) from fault
    finally:
        temporary.unlink(missing_ok=True)
    return public


def _move_to_free(temporary: Path, path: Path) -> None:
    """Give a file its name, never in place of another file."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links, as those of memory sticks.
        temporary.rename(path)


class AccessDesk:
    """Everything that a maintainer does with the sealed part of one prompts folder.

    Args:
        folder: the prompts folder; another one in tests.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.jsonl"
        self._recipients = folder / "recipients.json"
        self._watermark = folder / "watermark.age"
        self._conditions = folder / "conditions.md"

    def recipients(self) -> Recipients:
        """Who can open what."""
        return read_recipients(self._recipients)

    def appoint(self, name: str) -> Person:
        """Make the first maintainer's identity, encrypted under the passphrase, in the prompts folder.

        Raises:
            DemurError: there is one already, unless it was made by an appointment that was cut off.
        """
        path = self.folder / "maintainer.identity.age"
        if path.exists():
            if self.recipients().maintainers and self._watermark.exists():
                raise DemurError(f"{path}: there is an identity already", "use it, or revoke its holder first")
            identity = read_identity(path)[0]
        else:
            identity = pyrage.x25519.Identity.generate()
        person = Person(name, str(identity.to_public()))
        if not path.exists():
            secret = f"# public key: {person.key}\n{identity}\n".encode()
            self._write(path, pyrage.passphrase.encrypt(secret, passphrase()))
        self.add_maintainer(person)
        return person

    def add_maintainer(self, person: Person) -> None:
        """Let one more person open the sealed files; they must be sealed again for that.

        Done again with the same name and key, it finishes what was cut off.

        Raises:
            DemurError: the name is listed with another key or as a reader.
        """
        held = self.recipients()
        person = Person(person.name, public_key(person.key))
        if held.named(person.name) not in (None, *(one for one in held.maintainers if one == person)):
            raise DemurError(f"{person.name!r} is listed already", "choose another name, or revoke the old entry first")
        mark = self.watermark_key() if self._watermark.exists() else secrets.token_bytes(32)
        others = tuple(one for one in held.maintainers if one != person)
        write_recipients(self._recipients, replace(held, maintainers=(*others, person)))
        self._seal_bytes(self._watermark, mark)
        self._refresh_manifest()

    def seal(self, split: Split, source: Path | None = None) -> bool:
        """Seal a split to all maintainers, and make the manifest true for it.

        Args:
            split: ``gated`` or ``heldout``.
            source: folder of its YAML files, outside the repository; None seals again what is sealed (needs the key).

        Returns:
            Whether anything was written: nothing is where content and maintainers are the same as last time.
        """
        self._sealable(split)
        pairs = list(self._open(split).pairs) if source is None else read_split(source, split)
        return self._seal_pairs(split, pairs)

    def _seal_pairs(self, split: Split, pairs: list[Pair]) -> bool:
        listed = read_manifest(self.folder)
        held = self.recipients()
        if not held.maintainers:
            raise DemurError("there is no maintainer to seal to", "run `demur access init --name NAME` first")
        content = pack_pairs(split, listed["version"], listed["canary"], pairs)
        made: dict[str, object] = {
            "content_sha256": hashlib.sha256(content).hexdigest(),
            "to": sorted(person.key for person in held.maintainers),
        }
        path = self.folder / f"{split}.age"
        if (held.sealed or {}).get(split) == made and path.exists():
            return False
        self._seal_bytes(path, content)
        write_manifest(describe(listed, split, pairs), self.folder)
        self._note("sealed", split, file=_sha(path))
        # Last, since it is what says that all the rest is done: cut off before, the next call does everything again.
        write_recipients(self._recipients, replace(held, sealed={**(held.sealed or {}), split: made}))
        return True

    def open(self, split: Split) -> tuple[Prompt, ...]:
        """Open a sealed split with the key in ``DEMUR_IDENTITY``, in memory, and compare it with the manifest."""
        return from_sealed(self._open(split), read_manifest(self.folder))

    def grant(self, to: str, name: str, out: Path, *, conditions_accepted: bool) -> Entry:
        """Write a marked copy of the gated split for one recipient, and note it in the ledger.

        Args:
            to: their age public key.
            name: who they are, as it stands in the ledger.
            out: file to write.
            conditions_accepted: whether they accepted the use conditions.

        Raises:
            DemurError: conditions not accepted, a key or name that is listed for somebody else, or no key to open.
        """
        if not conditions_accepted:
            raise DemurError(
                "the use conditions were not accepted", f"have them accept {self._conditions}, then say so"
            )
        person = Person(name, public_key(to))
        held = self.recipients()
        same_name = held.named(name)
        if same_name is not None and same_name.key != person.key:
            raise DemurError(
                f"{name!r} is listed with another key", "choose another name, or revoke the old entry first"
            )
        other = next((p for p in (*held.maintainers, *held.readers) if p.key == person.key and p.name != name), None)
        if other is not None:
            raise DemurError(f"this key belongs to {other.name!r}", "ask for a key of their own: marks go by key")
        entry = self._write_copy(person, out)
        if same_name is None:
            write_recipients(self._recipients, replace(held, readers=(*held.readers, person)))
        return entry

    def revoke(self, name: str, out: Path) -> list[Path]:
        """Take a person off the list, seal the splits again for the rest and write new copies for the other readers.

        Done again, it finishes what was cut off, and writes new copies once more.

        Args:
            name: who.
            out: folder for the copies.

        Returns:
            The copies that were written.

        Raises:
            DemurError: nobody of this name, or the last maintainer.
        """
        held = self.recipients()
        person = held.named(name)
        begun = person is None and self._was_revoked(name)
        if person is None and not begun:
            raise DemurError(f"nobody is listed as {name!r}", "see `demur access list`")
        rest = held.without(name)
        if not rest.maintainers:
            raise DemurError(f"{name!r} is the last maintainer", "add another one first")
        # Opened before anything changes: without the key nothing is half done.
        opened = {split: self._open(split) for split in SEALED_SPLITS if (self.folder / f"{split}.age").exists()}
        mark = self.watermark_key()
        if person is not None:
            # First: it is what tells a revocation that was cut off from a name that nobody has.
            self._note("revoked", "", name=name, key=person.key)
            write_recipients(self._recipients, replace(rest, sealed={}))
        self._seal_bytes(self._watermark, mark)
        for split, content in opened.items():
            self._seal_pairs(split, list(content.pairs))
        paths = []
        for reader in rest.readers:
            paths.append(out / f"{_file_name(reader.name)}-{reader.key[-6:]}.gated.age")
            self._write_copy(reader, paths[-1])
        return paths

    def _was_revoked(self, name: str) -> bool:
        """Whether the last thing that happened to a person of this name was to be revoked."""
        actions = [entry.action for entry in self.entries() if entry.name == name]
        return actions[-1:] == ["revoked"]

    def entries(self) -> list[Entry]:
        """The ledger, its chain checked."""
        return read_ledger(self.ledger)

    def _open(self, split: Split) -> Sealed:
        path = self.folder / f"{self._sealable(split)}.age"
        return unpack(decrypt(path, read_identity()), str(path))

    def _write_copy(self, person: Person, out: Path) -> Entry:
        listed = read_manifest(self.folder)
        texts = copy_for(self.open("gated"), self.watermark_key(), person.key)
        content = pack_copy("gated", listed["version"], listed["canary"], person.name, texts)
        self._write(out, pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(person.key)]))
        return self._note(
            "granted", "gated", name=person.name, key=person.key, conditions=_sha(self._conditions), file=_sha(out)
        )

    def _note(
        self, action: str, split: str, *, name: str = "", key: str = "", conditions: str = "", file: str = ""
    ) -> Entry:
        version = read_manifest(self.folder)["version"]
        return append(
            self.ledger, action, name=name, key=key, split=split, version=version, conditions=conditions, file=file
        )

    def watermark_key(self) -> bytes:
        """The key of the marks; only maintainers can open it."""
        return decrypt(self._watermark, read_identity())

    def _seal_bytes(self, path: Path, content: bytes) -> None:
        keys = [pyrage.x25519.Recipient.from_str(person.key) for person in self.recipients().maintainers]
        self._write(path, pyrage.encrypt(content, keys))

    @staticmethod
    def _write(path: Path, ciphertext: bytes) -> None:
        with write_atomic(path) as temporary:
            temporary.write_bytes(ciphertext)

    def _refresh_manifest(self) -> None:
        write_manifest(read_manifest(self.folder), self.folder)

    @staticmethod
    def _sealable(split: Split) -> Split:
        if split not in SEALED_SPLITS:
            raise DemurError(f"split {split} is not sealed", f"choose one of {', '.join(SEALED_SPLITS)}")
        return split


def _sha(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as fault:
        raise DemurError(f"{path}: cannot read: {fault.strerror}", "restore it from git") from fault


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def names_by_key(entries: Sequence[Entry]) -> dict[str, str]:
    """The name under which each key was granted."""
    return {entry.key: entry.name for entry in entries if entry.action == "granted"}
