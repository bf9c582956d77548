"""Pull requests on the Hub, over real HTTP to a stand-in on the loopback interface."""

import base64
import json
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

from demur.benchmark.errors import DemurError
from demur.leaderboard.submissions.checking import check_submission
from demur.leaderboard.submissions.hub import propose_result, propose_submission
from demur.leaderboard.submissions.submission import submit
from demur.tests.submissions import scored_run

TOKEN = "hf_test"
KNOWN = ("/api/datasets/org/submissions", "/api/models/maker/small")


class Handler(BaseHTTPRequestHandler):
    """Knows two repositories, takes commits as pull requests and keeps their files."""

    protocol_version = "HTTP/1.1"
    taken: dict[str, dict[str, bytes]]

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
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
