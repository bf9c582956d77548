"""Planted secrets: no command may write or print a key, a token, an identity or a passphrase, however it ends."""

import base64
import gzip
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demur.benchmark.errors import DemurError
from demur.benchmark.masking import masked, repeats_key
from demur.benchmark.models.openai import OpenAIModel
from demur.tests.fault_server import Act, always, complete, completion, refuse, serving
from demur.tests.planted import ECHOES, Place, forms, marker, traces
from demur.tests.test_judge import honest

RUN = ("run", "openai:m", "--out", "run", "--samples", 1, "--limit-pairs", 1)


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
