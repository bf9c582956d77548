"""Secrets that are planted, and the search for them in everything that a command wrote or printed."""

import base64
import gzip
import html
import io
import json
import sqlite3
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import pytest

from demur import cli


def marker(prefix: str = "") -> str:
    """A secret that occurs nowhere else and that most encodings change."""
    return f"{prefix}{uuid.uuid4().hex}/+%&'{uuid.uuid4().hex[:8]}"


def forms(secret: str) -> dict[str, bytes]:
    """How a secret can lie in bytes: as it is, in the usual encodings, and each piece of 12 characters."""
    content = secret.encode()
    # Base64 of a longer text has the secret at one of three places; what its neighbours decide is left out.
    moved = {
        f"base64 at {lead}": base64.b64encode(b"\0" * lead + content).rstrip(b"=")[(0, 2, 3)[lead] : -1]
        for lead in range(3)
    }
    found = {
        "plain": content,
        "repr": repr(secret)[1:-1].encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "html": html.escape(secret).encode(),
        "quoted": quote(secret, safe="").encode(),
        "quoted for a form": quote_plus(secret).encode(),
        "hexadecimal": content.hex().encode(),
        "utf-16": secret.encode("utf-16-le"),
        **moved,
        **{f"{name}, for addresses": each.translate(bytes.maketrans(b"+/", b"-_")) for name, each in moved.items()},
        "base32": base64.b32encode(content).rstrip(b"=")[:-2],
    }
    pieces = {f"piece {start}": content[start : start + 12] for start in range(len(content) - 11)}
    return {name: each.lower() for name, each in (found | pieces).items()}


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what is packed in it."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield repr((table.to_pydict(), table.schema.metadata)).encode()
    elif raw.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(path)) as base:
            yield "\n".join(base.iterdump()).encode()
    elif raw.startswith(b"\x1f\x8b"):
        yield gzip.decompress(raw)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            yield from (packed.read(name) for name in packed.namelist())


def traces(secret: str, place: Path, said: str = "", apart: tuple[Path, ...] = ()) -> list[str]:
    """Where a secret is found: names of files included; ``apart`` are the files that it was put into."""
    looked = [("what was printed", said.encode("utf-8", "backslashreplace"))]
    for path in sorted(place.rglob("*")):
        looked.append((f"the name {path.name[:80]}", str(path).encode("utf-8", "surrogateescape")))
        if path.is_file() and path not in apart:
            looked += [(str(path.relative_to(place)), each) for each in contents(path)]
    wanted = forms(secret)
    return [f"{where}: {name}" for where, each in looked for name, form in wanted.items() if form in each.lower()]


class Place:
    """A home of its own for commands: their work, caches and temporary files lie below one folder."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> None:
        self.folder, self.patch, self._capfd, self._caplog = folder, patch, capfd, caplog
        self.said = ""
        for name, below in {"HOME": "home", "DEMUR_CACHE": "cache", "TMPDIR": "tmp", "HF_HOME": "hf"}.items():
            (folder / below).mkdir(parents=True)
            patch.setenv(name, str(folder / below))
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "DEMUR_IDENTITY", "DEMUR_PASSPHRASE_FILE"):
            patch.delenv(name, raising=False)
        for name in ("DEMUR_COPY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(name, raising=False)
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        # Constants of the Hub's client, which it reads from the environment once.
        from huggingface_hub import constants

        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "hf" / "token"))
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
        patch.chdir(folder)
        caplog.set_level("DEBUG", "demur")

    def demur(self, *arguments: object) -> int:
        """The command as the shell would call it; what it printed and logged is kept, tracebacks too."""
        self.patch.setattr(sys, "argv", ["demur", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except Exception:
            # What Python prints of a fault of the program; Typer may have put its own printer there.
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            code = 70
        out, err = self._capfd.readouterr()
        self.last = out + err
        self.said += self.last + self._caplog.text
        self._caplog.clear()
        return code

    def traces(self, secret: str, *apart: Path) -> list[str]:
        return traces(secret, self.folder, self.said, apart)


ECHOES: dict[str, Callable[[str], str]] = {
    "plain": lambda key: f"Authorization: Bearer {key}",
    "repr": lambda key: repr({"authorization": f"Bearer {key}"}),
    "upper": lambda key: key.upper(),
    "cut": lambda key: f"Incorrect key {key[:14]}***",
    "quoted": lambda key: quote(f"Bearer {key}", safe=""),
    "base64": lambda key: base64.b64encode(f"Authorization: Bearer {key}".encode()).decode(),
    "base64 for addresses": lambda key: base64.urlsafe_b64encode(f"x:{key}".encode()).decode(),
    "hexadecimal": lambda key: f"Bearer {key}".encode().hex(),
}
"""How a server repeats a key."""
