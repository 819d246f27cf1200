"""The part of the Hub's HTTP interface that an upload needs; it keeps what it is given."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """repositories: files by name of those that were made; private: which of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that runs in a thread."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = asked.get("private", asked.get("visibility") == "private")
            return self._answer(200, {"url": f"{self.server.address}/{name}"})
        name, _, action = self.path.removeprefix("/api/models/").partition("/main")[0].rpartition("/")
        if action == "preupload":
            files = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            return self._answer(200, {"files": modes})
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            if line["key"] == "file":
                value = line["value"]
                self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
        address = f"{self.server.address}/{name}/commit/{'0' * 40}"
        return self._answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": address})

    def do_GET(self) -> None:
        self._answer(404, {"error": "not here"})

    def _answer(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.command != "HEAD":
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

    def log_message(self, *arguments: Any) -> None:
        pass
