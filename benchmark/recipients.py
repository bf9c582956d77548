"""``prompts/recipients.json``: to whom the sealed files are sealed. Public keys and names only."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyrage

from .errors import DemurError
from .files import read_json, write_json
from .schema import check

__all__ = ["Person", "Recipients", "public_key", "read_recipients", "write_recipients"]


@dataclass(frozen=True, slots=True)
class Person:
    """A name and an age public key."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who can open what.

    Attributes:
        maintainers: they open the sealed files in the repository.
        readers: each holds a marked copy of their own.
        sealed: split to what its sealed file was made of and for whom, so that sealing again writes only changes.
    """

    maintainers: tuple[Person, ...] = ()
    readers: tuple[Person, ...] = ()
    sealed: dict[str, dict[str, object]] | None = None

    def named(self, name: str) -> Person | None:
        """The maintainer or reader of this name."""
        return next((person for person in (*self.maintainers, *self.readers) if person.name == name), None)

    def without(self, name: str) -> "Recipients":
        """The rest."""
        return replace(
            self,
            maintainers=tuple(person for person in self.maintainers if person.name != name),
            readers=tuple(person for person in self.readers if person.name != name),
        )


def public_key(text: str) -> str:
    """The key, if it is an age X25519 public key.

    Raises:
        DemurError: it is not; a secret key is never echoed.
    """
    if "AGE-SECRET-KEY-" in text.upper():
        raise DemurError(
            "that is a secret key", "give the public key (age1...), and make a new pair: this one was shown"
        )
    try:
        return str(pyrage.x25519.Recipient.from_str(text.strip()))
    except pyrage.RecipientError as fault:
        raise DemurError(f"{text!r} is not an age public key", "give the line that begins with age1") from fault


def read_recipients(path: Path) -> Recipients:
    """The file, or nobody where there is none yet."""
    if not path.exists():
        return Recipients(sealed={})
    raw = read_json(path)
    check(raw, "demur.benchmark", "recipients", str(path), "restore it from git")
    people = {role: tuple(Person(**person) for person in raw[role]) for role in ("maintainers", "readers")}
    return Recipients(people["maintainers"], people["readers"], raw["sealed"])


def write_recipients(path: Path, recipients: Recipients) -> None:
    """Write the file."""
    write_json(path, {"format": 1, **asdict(recipients)})
