"""A small stand-in for the Hub on the loopback interface: it speaks the documented endpoints over real HTTP."""

import base64
import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = "/api/datasets/org/demur"
TOKEN = "hf_test"


class Hub:
    """What the server holds. ``faults`` maps "METHOD path" to a list of faults for the next such requests.

    A fault is "drop", "drop after", a status with an error code, or what makes status, body and code of the headers.
    """

    def __init__(self):
        self.exists = False
        self.settings = {}
        self.files = {}
        self.commits = []
        self.tags = {}
        self.pending = ["ann", "ben"]
        self.answered = {}
        self.faults = {}
        self.log = []

    @property
    def head(self):
        return self.commits[0]["id"] if self.commits else "0" * 40

    def commit(self, lines):
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                self.files.pop(value["path"])
            else:
                self.files[value["path"]] = base64.b64decode(value["content"])
        header = lines[0]["value"]
        oid = hashlib.sha1(f"{len(self.commits)}{header['summary']}".encode()).hexdigest()
        self.commits.insert(0, {"id": oid, "title": header["summary"], "message": "", "authors": [], "date": DATE})
        return oid


DATE = "2026-11-23T12:00:00.000Z"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, value=None, code=None, message="as the test asked"):
        body = json.dumps(value if value is not None else {}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def drop(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle_any(self):
        hub = self.server.hub
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        name = f"{self.command} {path}"
        hub.log.append(name)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        queue = hub.faults.get(name, [])
        fault = queue.pop(0) if queue else None
        if fault == "drop":
            return self.drop()
        if callable(fault):
            return self.answer(*fault(self.headers))
        if isinstance(fault, tuple):
            return self.answer(fault[0], {"error": "fault"}, fault[1])
        status, value = self.route(hub, path, body)
        if fault == "drop after":
            return self.drop()
        return self.answer(status, value)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815  # the names that the base class looks for

    def route(self, hub, path, body):
        data = json.loads(body) if body and not path.endswith("/commit/main") else {}
        if path == "/api/repos/create":
            status, hub.exists = (409 if hub.exists else 200), True
            return status, {
                "url": f"http://{self.headers['Host']}/datasets/{data['organization']}/{data['name']}",
                "error": "exists",
            }
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if not hub.exists or not path.startswith(REPO):
            return 404, {"error": "Repository not found"}
        return self.route_repo(hub, path.removeprefix(REPO), data, body)

    def route_repo(self, hub, path, data, body):
        if path == "/settings":
            hub.settings |= data
            return 200, {}
        if path == "/commits/main":
            return 200, hub.commits
        if path == "/refs":
            tags = [{"name": k, "ref": f"refs/tags/{k}", "targetCommit": v} for k, v in hub.tags.items()]
            return 200, {"branches": [], "converts": [], "tags": tags}
        if path.startswith("/tree/"):
            return 200, [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in hub.files.items()]
        return self.route_writes(hub, path, data, body)

    def route_writes(self, hub, path, data, body):
        if path in ("", "/revision/main"):
            return 200, {"id": "org/demur", "sha": hub.head, "siblings": [{"rfilename": p} for p in hub.files]}
        if path == "/preupload/main":
            return 200, {
                "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in data["files"]]
            }
        if path == "/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            if lines[0]["value"].get("parentCommit", hub.head) != hub.head:
                return 412, {"error": "the branch has moved"}
            oid = hub.commit(lines)
            return 200, {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"http://{self.headers['Host']}/datasets/org/demur/commit/{oid}",
            }
        return self.route_more(hub, path, data)

    def route_more(self, hub, path, data):
        if path.startswith("/tag/"):
            if data["tag"] in hub.tags:
                return 409, {"error": "tag exists"}
            hub.tags[data["tag"]] = path.removeprefix("/tag/")
            return 200, {}
        return self.route_requests(hub, path, data)

    def route_requests(self, hub, path, data):
        if path == "/user-access-request/pending":
            return 200, [
                {
                    "requestId": f"id-{user}",
                    "user": {"user": user, "fullname": user.title(), "email": f"{user}@example.org"},
                    "status": "pending",
                    "timestamp": DATE,
                    "fields": {"Affiliation": "Lab"},
                }
                for user in hub.pending
            ]
        if path == "/user-access-request/handle":
            if data["user"] in hub.answered:
                return 409, {"error": "already handled"}
            if data["user"] not in hub.pending:
                return 404, {"error": "no such request"}
            hub.pending.remove(data["user"])
            hub.answered[data["user"]] = (data["status"], data.get("rejectionReason"))
            return 200, {}
        return 404, {"error": f"no route {path}"}


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
