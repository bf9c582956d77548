"""Planted secrets: no command may write or print a key, a token, an identity or a passphrase, however it ends."""

import base64
import gzip
import importlib.util
import json
import shutil
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pyrage
import pytest
from huggingface_hub.utils import close_session

from demur.benchmark import manifest, prompts, sealed
from demur.benchmark.access import AccessDesk, new_identity
from demur.benchmark.errors import DemurError
from demur.benchmark.masking import masked, repeats_key
from demur.benchmark.models import server
from demur.benchmark.models.openai import OpenAIModel
from demur.benchmark.recipients import Person
from demur.tests.fault_server import Act, always, complete, completion, refuse, serving
from demur.tests.planted import Place, forms, marker, traces
from demur.tests.test_judge import honest

_spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
hub_server = importlib.util.module_from_spec(_spec)
sys.modules["hub_server"] = hub_server
_spec.loader.exec_module(hub_server)

RUN = ("run", "openai:m", "--out", "run", "--samples", 1, "--limit-pairs", 1)
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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> Place:
    monkeypatch.setattr(server, "BACKOFF_S", 0.002)
    monkeypatch.setattr(server, "ATTEMPTS", 2)
    monkeypatch.setattr(server, "FIRST_CONTACT_ATTEMPTS", 2)
    return Place(tmp_path / "place", monkeypatch, capfd, caplog)


@pytest.fixture
def key(place: Place) -> str:
    made = marker("sk-")
    place.patch.setenv("OPENAI_API_KEY", made)
    return made


# --- the search itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", ECHOES)
def test_the_search_finds_what_is_there(echo: str, tmp_path: Path) -> None:
    secret = marker()
    assert traces(secret, tmp_path, "nothing") == []
    text = ECHOES[echo](secret)
    assert traces(secret, tmp_path, text)
    pq.write_table(pa.table({"text": ["a", text]}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x", text)
    with closing(sqlite3.connect(tmp_path / "d")) as base:
        base.execute("create table t (x)")
        base.execute("insert into t values (?)", (text,))
        base.commit()
    (tmp_path / "e.txt").write_text(text)
    assert {each.split(":")[0] for each in traces(secret, tmp_path)} == {"a.parquet", "b.gz", "c.npz", "d", "e.txt"}
    assert not traces(secret, tmp_path, apart=tuple(tmp_path.iterdir()))


def test_the_search_knows_every_form() -> None:
    secret = marker()
    assert {"plain", "base64 at 0", "base64 at 1", "base64 at 2", "quoted", "repr", "hexadecimal"} <= set(forms(secret))
    for lead in range(6):
        packed = base64.b64encode(b"x" * lead + secret.encode() + b"tail").lower()
        assert any(form in packed for name, form in forms(secret).items() if name.startswith("base64"))


# --- keys of servers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_way_with_a_key_leaves_no_trace(place: Place, key: str) -> None:
    with serving(complete) as found:
        assert place.demur(*RUN, "--base-url", found.url) == 0
        assert {each["authorization"] for each in found.headers} == {f"Bearer {key}"}
    with serving(honest) as found:
        judge = ("score", "run", "--scorer", "judge:m", "--judge-cache", "judged", "--base-url", found.url)
        assert place.demur(*judge) == 0
        assert len(found.asked) == 80
    assert place.demur("score", "run") == 0
    assert place.demur("check", "run") == 0
    assert place.demur("submit", "run", "--scorer", "cascade", "--to", "sent") == 0
    assert place.demur("leaderboard", "build", "sent", "--out", "site") == 0
    assert place.demur("leaderboard", "export", "sent", "--json", "--out", "board.json") == 0
    assert (place.folder / "site" / "index.html").is_file()
    assert any((place.folder / "judged").iterdir())
    assert place.traces(key) == []


def says(act: Callable[[str], Act], key: str) -> Callable[[dict[str, Any], int], Act]:
    """A server that repeats the key in another form each time."""
    turns = iter(range(10**9))
    return lambda _body, _before: act(list(ECHOES.values())[next(turns) % len(ECHOES)](key))


REPEATING: dict[str, Callable[[str], Act]] = {
    "error of 400": lambda said: refuse(400, {"message": said}),
    "error of 429": lambda said: refuse(429, {"message": said, "code": said}),
    "error of 500": lambda said: refuse(500, {"message": said}),
    "error of 422 by field": lambda said: Act({"detail": [{"msg": said, "input": said}]}, 422),
    "error of 502 in words": lambda said: Act(f"<html>{said}</html>", 502),
    "error inside a success": lambda said: Act({"error": {"message": said, "code": 500}}, 200),
    "header": lambda said: refuse(500, x_request_id=quote(said)),
    "redirect": lambda said: refuse(302, {"message": "moved"}, location=f"/v2?key={quote(said)}"),
    "answer": completion,
    "answer in parts": lambda said: completion([{"type": "text", "text": said}]),  # type: ignore[arg-type]
    "refusal": lambda said: completion("", refusal=said),
    "thinking": lambda said: completion("Fine.", reasoning_content=said),
    "finish reason": lambda said: completion("Fine.", reason=said),
    "content filter": lambda said: refuse(400, {"message": said, "code": "content_filter"}),
    "no chat completion": lambda said: Act({"said": said}),
}


@pytest.mark.parametrize("where", REPEATING)
def test_a_key_that_a_server_repeats_is_not_kept(where: str, place: Place, key: str) -> None:
    with serving(says(REPEATING[where], key)) as found:
        code = place.demur(*RUN, "--base-url", found.url)
        place.demur("score", "run", "--scorer", "lexicon")
        place.demur("check", "run")
        place.demur("score", "run", "--scorer", "judge:m", "--judge-cache", "judged", "--base-url", found.url)
        assert found.asked
    assert code in {0, 1}
    assert "Traceback" not in place.said
    assert place.traces(key) == []


@pytest.mark.parametrize("echo", [name for name in ECHOES if name != "cut"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_repeats_the_key(status: int, echo: str, place: Place, key: str) -> None:
    with serving(always(refuse(status, {"message": ECHOES[echo](key)}))) as found:
        assert place.demur(*RUN, "--base-url", found.url) == 1
    assert f"HTTP {status}" in place.last
    assert "Mend:" in place.last
    assert place.traces(key) == []


def test_no_server_no_key(place: Place, key: str) -> None:
    with serving(complete) as gone:
        pass
    assert place.demur(*RUN, "--base-url", gone.url) == 1
    assert "start the server" in place.last
    assert place.traces(key) == []


def test_short_keys_are_words_that_answers_may_use(place: Place) -> None:
    place.patch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(always(completion("The box is empty."))) as found:
        assert place.demur(*RUN, "--base-url", found.url) == 0
    assert "80 responses, 0 of them errors" in place.last


def test_a_fault_of_the_program_shows_no_key(place: Place, key: str) -> None:
    def broken(self: OpenAIModel, *_: object) -> None:
        held = {"headers": {"Authorization": f"Bearer {key}"}}
        raise RuntimeError(f"no such thing among {len(held)}")

    place.patch.setattr(OpenAIModel, "_body", broken)
    with serving(complete) as found:
        assert place.demur(*RUN, "--base-url", found.url) == 70
    assert "Traceback" in place.last
    assert "no such thing among 1" in place.last
    assert place.traces(key) == []


@pytest.mark.parametrize("broken", ["{}\n", "{}\r\nX-Other: 1", "“{}”", "{}\x7f", "{}é"])
def test_a_key_that_is_none(broken: str, place: Place, key: str) -> None:
    place.patch.setenv("OPENAI_API_KEY", broken.format(key))
    with serving(complete) as found:
        code = place.demur(*RUN, "--base-url", found.url)
        # A line end after a key is no fault: files end with one.
        assert code == (0 if broken == "{}\n" else 1)
        assert all(each["authorization"] == f"Bearer {key}" for each in found.headers)
    assert "Traceback" not in place.said
    assert place.traces(key) == []


ADDRESSES = [
    "http://user:{}@127.0.0.1:9/v1",
    "http://{}@127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1?api_key={}",
    "http://127.0.0.1:9/v1#{}",
    "http://127.0.0.1:x/v1?k={}",
    "ftp://u:{}@127.0.0.1/",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_key_in_an_address_goes_nowhere(address: str, place: Place) -> None:
    # As it must be written there, and so that it is found as it stands.
    secret = marker("k").replace("/", "").replace("%", "").replace("'", "").replace("&", "")
    where = address.format(secret)
    for command in (
        (*RUN, "--base-url", where),
        ("run", f"openai:{where}", "--out", "run", "--base-url", "http://127.0.0.1:9/v1"),
        (*RUN, "--base-url", "http://127.0.0.1:9/v1", "--model-id", where),
        ("run", where, "--out", "run"),
        ("run", f"replay:{where}", "--out", "run"),
        ("submit", where, "--to", "sent"),
        ("submit", "run", "--to", f"hub:{where}"),
        ("leaderboard", "build", where, "--out", "site"),
        ("score", "run", "--scorer", f"judge:m@{where}"),
        ("score", "run", "--scorer", f"judge:,m@{where}"),
        ("score", "run", "--scorer", f"judge:m@{where.replace('http', 'HTTP')}"),
        ("score", "run", "--scorer", "judge:m", "--base-url", where),
        ("score", "run", "--scorer", f"guard:{where}"),
        ("check", where),
    ):
        assert place.demur(*command) in {1, 2}, command
        assert traces(secret, place.folder, place.last) == [], command
    place.patch.setenv("OPENAI_BASE_URL", where)
    assert place.demur(*RUN) == 1
    assert "Traceback" not in place.said
    assert place.traces(secret) == []


# --- tokens of the Hub ---------------------------------------------------------------------------------------------

HUB_COMMANDS = (
    ("access", "requests", "org/demur"),
    ("access", "accept", "org/demur", "ann"),
    ("access", "reject", "org/demur", "ben", "--reason", "no"),
    ("prompts", "publish", "org/demur"),
    ("submit", "run", "--to", "hub:org/demur"),
    ("submit", "run", "--to", "there", "--with-responses", "hub:org/demur"),
    ("run", "org/model", "--out", "other"),
)


@pytest.fixture
def hub(place: Place) -> Iterator[Any]:
    with hub_server.serving() as (state, endpoint):
        from huggingface_hub import constants

        place.patch.setenv("HF_ENDPOINT", endpoint)
        place.patch.setattr(constants, "ENDPOINT", endpoint)
        place.patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        place.patch.setattr(time, "sleep", lambda _: None)
        # Every client looks the token up where it is kept; the server compares.
        place.patch.setattr(hub_server, "TOKEN", marker("hf_"))
        yield state
        close_session()


@pytest.fixture(params=["HF_TOKEN", "login file"])
def token(request: pytest.FixtureRequest, place: Place, hub: Any) -> tuple[str, tuple[Path, ...]]:
    """The token, and the files that hold it rightly."""
    if request.param == "HF_TOKEN":
        place.patch.setenv("HF_TOKEN", hub_server.TOKEN)
        return hub_server.TOKEN, ()
    kept = place.folder / "hf" / "token"
    kept.write_text(f"{hub_server.TOKEN}\n")
    return hub_server.TOKEN, (kept,)


@pytest.fixture
def scored(place: Place) -> None:
    from demur.tests.submissions import scored_run

    scored_run(place.folder / "run", samples=1)


def echoing(status: int, echo: Callable[[str], str], code: str) -> Callable[[Any], tuple[int, Any, str, str]]:
    def fault(headers: Any) -> tuple[int, Any, str, str]:
        said = echo((headers.get("Authorization") or "").removeprefix("Bearer "))
        return status, {"error": said, "errors": [{"message": said}]}, code, quote(said, safe=" :/+'{}")

    return fault


@pytest.mark.usefixtures("scored")
def test_a_token_leaves_no_trace(place: Place, hub: Any, token: tuple[str, tuple[Path, ...]]) -> None:
    for command in HUB_COMMANDS[:3]:
        hub.exists = True
        assert place.demur(*command) == 0, place.last
    assert place.demur("prompts", "publish", "org/demur") == 0, place.last
    for command in HUB_COMMANDS[4:]:
        place.demur(*command)
    assert hub.log
    assert place.traces(token[0], *token[1]) == []


class Always(dict[str, list[Any]]):
    """The same fault at every request."""

    def __init__(self, fault: Any) -> None:
        super().__init__()
        self.fault = fault

    def get(self, _name: str, _default: object = None) -> Any:
        return [self.fault]


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("status", [400, 401, 403, 422, 500, "drop"])
def test_a_token_that_the_hub_repeats(status: int | str, place: Place, hub: Any) -> None:
    token = hub_server.TOKEN
    place.patch.setenv("HF_TOKEN", token)
    for number, command in enumerate(HUB_COMMANDS):
        echo = list(ECHOES.values())[number % len(ECHOES)]
        hub.faults = Always("drop" if isinstance(status, str) else echoing(status, echo, "Odd"))
        hub.exists = True
        assert place.demur(*command) == 1, (command, place.last)
        assert "Mend:" in place.last, (command, place.last)
    assert "Traceback" not in place.said
    assert place.traces(token) == []


@pytest.mark.usefixtures("hub", "scored")
@pytest.mark.parametrize("broken", ["{}x", "{}é", "a\nb{}"])
def test_a_token_that_is_none(broken: str, place: Place) -> None:
    secret = broken.format(hub_server.TOKEN)
    place.patch.setenv("HF_TOKEN", secret)
    for command in HUB_COMMANDS:
        assert place.demur(*command) == 1, (command, place.last)
    assert "Traceback" not in place.said
    assert place.traces(hub_server.TOKEN) == []


# --- identities and passphrases ------------------------------------------------------------------------------------


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


# --- the parts -----------------------------------------------------------------------------------------------------


def test_faults_are_masked() -> None:
    fault = DemurError("AGE-SECRET-KEY-1ABC at https://u:pw@host/v1?key=pw", "see http:/u@x/#pw or age-secret-key-1q")
    assert str(fault) == "AGE-SECRET-KEY-… at https://…@host/v1?…\n  Mend: see http:/…@x/?… or AGE-SECRET-KEY-…"
    plain = "see https://host/v1/models, a@b and x?y=z"
    assert masked(plain) == plain


def test_pieces_of_a_key() -> None:
    key = marker("sk-")
    assert not repeats_key("", key)
    assert not repeats_key("anything", None)
    assert not repeats_key("sk- and nothing else", key)
    for echo in ECHOES.values():
        assert repeats_key(f"It says: {echo(key)}.", key)
