"""A chat server on loopback that answers as a script says, faults of every kind included."""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Act:
    """What to do with a request: answer, or break in one of the ways in which servers break."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    wait: float = 0.0


def text_of(body: dict[str, Any], choice: int = 0) -> str:
    """A text that depends on what was asked alone."""
    asked = (body["messages"][0]["content"], body.get("seed"), choice)
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def completion(*texts: str, reason: str | None = "stop", usage: dict[str, Any] | None = None, **more: Any) -> Act:
    choices = [
        {"index": number, "message": {"role": "assistant", "content": text, **more}, "finish_reason": reason}
        for number, text in enumerate(texts)
    ]
    counts = {"prompt_tokens": 7, "completion_tokens": 12} if usage is None else usage
    return Act({"object": "chat.completion", "choices": choices, "usage": counts})


def complete(body: dict[str, Any], _before: int = 0) -> Act:
    return completion(*(text_of(body, choice) for choice in range(body.get("n", 1))))


def refuse(status: int, error: Any = None, **headers: str) -> Act:
    return Act({"error": error or {"message": "not now"}}, status, {k.replace("_", "-"): v for k, v in headers.items()})


Script = Callable[[dict[str, Any], int], Act]
"""(what is asked, how often this very request came before) to what to do."""


def always(act: Act) -> Script:
    return lambda _body, _before: act


class FaultServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            server.at.append(time.monotonic())
            before = server.asked.count(body)
            server.asked.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            act = server.script(body, before) if self.path == "/v1/chat/completions" else refuse(404)
            self._do(act)
        finally:
            with server.lock:
                server.in_flight -= 1

    def _do(self, act: Act) -> None:
        self.server.closing.wait(act.wait)
        if act.fault == "hang":
            self.server.closing.wait(60)
        if act.fault in {"hang", "drop"}:
            self.close_connection = True
            return
        content = act.body.encode() if isinstance(act.body, str) else json.dumps(act.body).encode()
        self.send_response(act.status)
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if act.fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif act.fault == "trickle":
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.server.closing.wait(0.05):
                    break
        else:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving_apart(script: Script, note: Path) -> Iterator[str]:
    """The same in a process of its own, so that others can be forked beside it; gives the address by a file."""
    child = os.fork()
    if not child:
        with serving(script) as found:
            note.with_suffix(".new").write_text(found.url)
            note.with_suffix(".new").rename(note)
            while os.getppid() != 1:
                time.sleep(1)
                found.asked.clear()
        os._exit(0)
    try:
        while not note.exists():
            time.sleep(0.05)
        yield note.read_text()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def serving(script: Script) -> Iterator[FaultServer]:
    server = FaultServer(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
