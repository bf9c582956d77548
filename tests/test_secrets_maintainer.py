"""Planted identities and passphrases: no command may write or print one, however it ends."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from demur.benchmark import manifest, prompts, sealed
from demur.benchmark.access import AccessDesk, new_identity
from demur.benchmark.recipients import Person
from demur.tests.planted import Place, marker


@pytest.fixture(scope="module")
def sealed_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain files of a split that can be sealed."""
    home = tmp_path_factory.mktemp("set")
    (home / "prompts").mkdir()
    shutil.copytree(manifest.FOLDER / "public", home / "prompts" / "public")
    for name in ("manifest.json", "conditions.md"):
        shutil.copy(manifest.FOLDER / name, home / "prompts" / name)
    (home / "plain" / "gated").mkdir(parents=True)
    for path in (manifest.FOLDER / "public").glob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace("split: public", "split: gated")
        text = text.replace("-01\n", "-03\n").replace("-02\n", "-04\n")
        (home / "plain" / "gated" / path.name).write_text(text, encoding="utf-8")
    return home


@pytest.fixture
def desk(place: Place, sealed_set: Path) -> Iterator[Path]:
    """The prompt set of the commands is one of their own."""
    shutil.copytree(sealed_set, place.folder, dirs_exist_ok=True)
    folder = place.folder / "prompts"
    for module in (manifest, prompts, sealed):
        place.patch.setattr(module, "FOLDER", folder)
    place.patch.setattr(AccessDesk.__init__, "__defaults__", (folder,))
    manifest.manifest.cache_clear()
    sealed._with_passphrase.cache_clear()
    yield folder
    manifest.manifest.cache_clear()
    sealed._with_passphrase.cache_clear()


def secret_of(path: Path) -> str:
    return path.read_text().splitlines()[-1]


@pytest.mark.slow
def test_a_maintainers_secrets_leave_no_trace(place: Place, desk: Path) -> None:
    phrase, kept = marker("phrase "), place.folder / "passphrase"
    kept.write_text(f"{phrase}\n")
    place.patch.setenv("DEMUR_PASSPHRASE_FILE", str(kept))
    place.patch.setenv("DEMUR_IDENTITY", str(desk / "maintainer.identity.age"))
    assert place.demur("access", "keygen", "reader") == 0
    assert place.demur("access", "keygen", "other") == 0
    public = next(line for line in (place.folder / "reader").read_text().split() if line.startswith("age1"))
    assert place.demur("access", "init", "--name", "First") == 0, place.last
    opened = pyrage.passphrase.decrypt((desk / "maintainer.identity.age").read_bytes(), phrase)
    identity = opened.decode().splitlines()[-1]
    assert place.demur("access", "seal", "--split", "gated", "--from", "plain") == 0, place.last
    granted = ("--name", "R", "--conditions-accepted", "--out", "copy.age")
    assert place.demur("access", "grant", "--to", public, *granted) == 0, place.last
    assert place.demur("access", "open", "--stdout") == 0, place.last
    assert place.demur("access", "verify") == 0
    assert place.demur("access", "list") == 0
    place.patch.setenv("DEMUR_IDENTITY", str(place.folder / "reader"))
    place.patch.setenv("DEMUR_COPY", str(place.folder / "copy.age"))
    assert place.demur("access", "open") == 0, place.last
    # And the ways in which it fails.
    keys = {name: secret_of(place.folder / name) for name in ("reader", "other")}
    for value in (
        str(place.folder / "other"),
        keys["other"],
        f" {keys['other'].lower()}",
        f"{place.folder}/{keys['other']}",
    ):
        place.patch.setenv("DEMUR_IDENTITY", value)
        assert place.demur("access", "open") == 1
        assert "Mend:" in place.last
    for value in (keys["other"], f"# {keys['other']}", f"{public} {keys['other']}"):
        assert place.demur("access", "grant", "--to", value, *granted) == 1
        assert place.demur("submit", "run", "--to", "x", "--with-responses", "y", "--recipient", value) == 1
    place.patch.setenv("DEMUR_IDENTITY", str(desk / "maintainer.identity.age"))
    place.patch.delenv("DEMUR_COPY")
    sealed._with_passphrase.cache_clear()
    for value in (phrase, str(place.folder / phrase.replace("/", "")), str(place.folder)):
        place.patch.setenv("DEMUR_PASSPHRASE_FILE", value)
        assert place.demur("access", "open") == 1
        assert "Mend:" in place.last
    wrong = place.folder / "wrong"
    wrong.write_text(phrase[:-1])
    place.patch.setenv("DEMUR_PASSPHRASE_FILE", str(wrong))
    assert place.demur("access", "open") == 1
    assert "Traceback" not in place.said
    assert place.traces(phrase, kept, wrong) == []
    # Keys begin alike; what follows is their own.
    own = {**{place.folder / name: secret for name, secret in keys.items()}, place.folder / "nowhere": identity}
    for path, secret in own.items():
        assert place.traces(secret.removeprefix("AGE-SECRET-KEY-1"), path) == []


def test_a_damaged_identity_is_not_quoted(place: Place, desk: Path) -> None:
    new_identity(place.folder / "key")
    secret = secret_of(place.folder / "key")
    AccessDesk(desk).add_maintainer(Person("A", (place.folder / "key").read_text().split()[3]))
    place.patch.setenv("DEMUR_IDENTITY", str(place.folder / "key"))
    assert place.demur("access", "seal", "--from", "plain") == 0, place.last
    for text in (secret[:-3], f"{secret}x", f"key={secret}", json.dumps({"key": secret}), secret.encode("utf-16")):
        raw = text if isinstance(text, bytes) else text.encode()
        (place.folder / "key").write_bytes(raw)
        assert place.demur("access", "open") == 1
        assert "not an age identity file" in place.last
    (desk / "gated.age").write_bytes((desk / "gated.age").read_bytes()[:-9])
    (place.folder / "key").write_text(secret)
    assert place.demur("access", "open") == 1
    assert place.traces(secret.removeprefix("AGE-SECRET-KEY-1"), place.folder / "key") == []
