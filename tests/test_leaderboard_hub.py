"""Pull requests on the Hub, over real HTTP to a stand-in on the loopback interface."""

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.utils import close_session
from typer.testing import CliRunner

from demur.benchmark.access import new_identity
from demur.benchmark.errors import DemurError
from demur.cli import app
from demur.leaderboard.submissions.checking import check_submission
from demur.leaderboard.submissions.hub import fetch_responses, propose_responses, propose_result, propose_submission
from demur.leaderboard.submissions.submission import submit
from demur.tests.submissions import scored_run

TOKEN = "hf_test"
KNOWN = (
    "/api/datasets/org/submissions",
    "/api/datasets/org/private",
    "/api/datasets/org/gated",
    "/api/models/maker/small",
)


class Handler(BaseHTTPRequestHandler):
    """Knows two repositories, takes commits as pull requests and keeps their files."""

    protocol_version = "HTTP/1.1"
    taken: dict[str, dict[str, bytes]]

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, status: int, value: dict[str, Any], code: str = "") -> None:
        body = json.dumps(value).encode() if self.command != "HEAD" else b""
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        repo = next((known for known in KNOWN if path.startswith(known)), None)
        if repo is not None:
            name = repo.rsplit("/", 1)[-1]
            about = {"id": f"org/{name}", "private": name == "private", "gated": name == "gated" and "manual"}
            return self.answer(200, {**about, "sha": "a" * 40, "siblings": []})
        place, _, name = path.partition("/resolve/main/")
        content = self.taken.get(f"/api{place}", {}).get(name)
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, code="EntryNotFound")
        self.send_response(200)
        for header, value in (("ETag", '"b"'), ("X-Repo-Commit", "a" * 40), ("Content-Length", str(len(content)))):
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    def do_POST(self) -> None:
        where, body = urlsplit(self.path), self.content()
        repo = next((known for known in KNOWN if where.path.startswith(known)), None)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if repo is None:
            return self.answer(404, {"error": "Repository not found"})
        if "/preupload/" in where.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": files})
        assert where.query == "create_pr=1", "nothing is changed directly"
        lines = [json.loads(line) for line in body.splitlines()]
        self.taken[repo] = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        host = f"http://{self.headers['Host']}{repo.replace('/api/models', '').replace('/api', '')}"
        return self.answer(
            200,
            {
                "commitUrl": f"{host}/commit/{'a' * 40}",
                "commitOid": "a" * 40,
                "pullRequestUrl": f"{host}/discussions/3",
            },
        )


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    Handler.taken = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield Handler.taken
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    return submit(scored_run(place / "run", pairs_per_hazard=None), place / "to")


def test_a_submission_becomes_a_pull_request_that_checks(
    whole: Path, taken: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    assert propose_submission(whole, "org/submissions").endswith("/datasets/org/submissions/discussions/3")
    files = taken["/api/datasets/org/submissions"]
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert check_submission(tmp_path / whole.name) == []


def test_the_result_goes_to_the_models_repository(whole: Path, taken: dict[str, dict[str, bytes]]) -> None:
    assert propose_result(whole, "maker/small", source_url="https://example.org/3").endswith(
        "/maker/small/discussions/3"
    )
    content = taken["/api/models/maker/small"][".eval_results/demur.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id, entry.source_url) == ("demur/prompts", "public", "https://example.org/3")
    stated = json.loads((whole / "submission.json").read_text())["figures"]["refused"]["curve"][3]
    assert entry.value == pytest.approx(stated, abs=1e-6)
    assert "C@4, prompt set" in str(entry.notes)


def test_what_cannot_be_proposed(
    whole: Path, taken: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = submit(scored_run(tmp_path / "run"), tmp_path / "to")
    with pytest.raises(DemurError, match="asked 10 of 80 pairs"):
        propose_result(part, "maker/small", source_url="https://example.org/3")
    few = submit(scored_run(tmp_path / "few", samples=1), tmp_path / "to")
    with pytest.raises(DemurError, match="fewer than 8 draws"):
        propose_result(few, "maker/small", source_url="https://example.org/3")
    with pytest.raises(DemurError, match="no such repository"):
        propose_submission(whole, "org/nothing")
    with pytest.raises(DemurError, match="is not a repository id"):
        propose_submission(whole, "a/b/c")
    (part / "verdicts.parquet").write_bytes(b"")
    with pytest.raises(DemurError, match="not a whole Parquet file"):
        propose_submission(part, "org/submissions")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(DemurError, match="does not accept the token"):
        propose_submission(whole, "org/submissions")
    assert taken == {}


@pytest.mark.parametrize("name", ["private", "gated"])
def test_sealed_responses_go_to_a_private_repository_and_come_back(
    name: str, taken: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def demur(*arguments: object) -> str:
        said = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert said.exit_code == 0, said.output
        return said.output.replace("\n", " ")

    monkeypatch.setenv("DEMUR_IDENTITY", str(tmp_path / "key"))
    key = new_identity(tmp_path / "key")
    run = scored_run(tmp_path / "run")
    repo = f"hub:org/{name}"
    said = demur("submit", run, "--to", "hub:org/submissions", "--with-responses", repo, "--recipient", key)
    assert f"/datasets/org/{name}/discussions/3" in said
    assert "/datasets/org/submissions/discussions/3" in said
    (place,) = (run / "submissions").iterdir()
    assert list(taken[f"/api/datasets/org/{name}"]) == [f"{place.name}.age"]
    assert set(taken["/api/datasets/org/submissions"]) == {
        f"{place.name}/submission.json",
        f"{place.name}/verdicts.parquet",
    }
    assert all(b"help with that" not in content for files in taken.values() for content in files.values())
    # The maintainer has merged both: the submission lies in a folder, the responses in the private repository.
    shutil.copytree(place, tmp_path / "board" / place.name)
    assert "160 responses judged by lexicon" in demur("verify", tmp_path / "board" / place.name, "--responses", repo)
    assert json.loads((tmp_path / "board" / "notices.json").read_text())["tiers"] == {place.name: "rescored"}


def test_responses_never_go_where_everybody_can_read(
    whole: Path, taken: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DemurError, match="everybody can read it"):
        propose_responses("run", whole, "org/submissions")
    assert taken == {}
    with pytest.raises(DemurError, match=r"has no .*\.age on its main branch"):
        fetch_responses(whole.name, "org/private")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(DemurError, match="does not accept the token"):
        fetch_responses(whole.name, "org/private")
