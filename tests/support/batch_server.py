"""A server that speaks OpenAI's documented batch interface, and counts the requests that it ran: those it bills.

A batch is run when its time has come, at the first look at it; the bodies of its lines are answered by `plan`, as
direct requests are.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from cohobate.config import Recipe
from tests.support.endpoint_recipe import recipe_of
from tests.support.wire_server import Body, Plan, WireServer, completion, digest

ROWS = 12  # questions of a recipe
ONCE = {"requests": ROWS, "times": 1}  # each of them was billed once
SERVER_ERROR = {"error": {"message": "overloaded"}}


@dataclass
class Fate:
    """What becomes of a batch. ran: how many of its requests are run, from the first on; None: all.

    errors: why it is refused. mangle: changes the lines of the output file.
    """

    delay: float = 0.0
    status: str = "completed"
    ran: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    mangle: Callable[[list[str]], list[str]] = list
    names_output: bool = True
    counts: dict[str, int] | None = None  # told instead of the right ones


@dataclass
class Batch:
    """A batch of the server; `lines` are the requests of its file."""

    id: str
    created: Body
    lines: list[Body]
    fate: Fate
    at: float
    wire: Body = field(default_factory=dict)


class BatchServer(WireServer):
    """`fate` says what becomes of the n-th batch (from 1). `ran` counts how often each request was run, by its body."""

    def __init__(self, plan: Plan | None = None, fate: Callable[[int], Fate] | None = None) -> None:
        super().__init__(plan)
        self.fate = fate or (lambda number: Fate())
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.ran: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, list[web.Response]] = {}  # sent instead, by route, the first one first
        self.authorised: set[str] = set()
        self.keeps_metadata = True
        self.lacking: set[str] = set()  # files that are not given
        self.late = 0.0  # seconds after which the next creation is given up by a gateway; it is done after half of it
        self._held: tuple[str, bool] | None = None
        self.reached = threading.Event()

    def add_routes(self, app: web.Application) -> None:
        app.middlewares.append(self._counted)
        app.router.add_post("/v1/files", self._upload, name="upload")
        app.router.add_get("/v1/files/{id}/content", self._content, name="content")
        app.router.add_post("/v1/batches", self._create, name="create")
        app.router.add_get("/v1/batches", self._list, name="list")
        app.router.add_get("/v1/batches/{id}", self._retrieve, name="retrieve")

    @contextmanager
    def holding(self, route: str, *, done: bool) -> Iterator[threading.Event]:
        """Within the block a call of `route` is not answered; done: but carried out. The event tells that one came."""
        self.reached.clear()
        self._held = route, done
        try:
            yield self.reached
        finally:
            self._held = None

    @web.middleware
    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        route = request.match_info.route.name or ""
        self.calls[route] += 1
        self.authorised.add(request.headers["Authorization"])
        if self.answers.get(route):
            return self.answers[route].pop(0)
        if self._held == (route, False):
            await self._hang()
        reply: web.StreamResponse = await handler(request)
        if self._held == (route, True):
            if route == "content":  # half of it is on its way
                half = web.StreamResponse(headers={"Content-Length": str(len(reply.body))})  # type: ignore[attr-defined]
                await half.prepare(request)
                await half.write(reply.body[: len(reply.body) // 2])  # type: ignore[attr-defined]
            await self._hang()
        return reply

    async def _hang(self) -> None:
        self.reached.set()
        await asyncio.sleep(3600)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField) and form["purpose"] == "batch"
        name = self._keep(file.file.read())
        return web.json_response({"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"})

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    async def _content(self, request: web.Request) -> web.Response:
        content = self.files.get(name := request.match_info["id"])
        if content is None or name in self.lacking:
            return web.json_response({"error": {"message": "No such File object"}}, status=404)
        return web.Response(body=content, content_type="application/octet-stream")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["endpoint"] == "/v1/chat/completions" and body["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert 0 < len(lines) <= 50_000 and len({line["custom_id"] for line in lines}) == len(lines)
        assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
        number = len(self.batches) + 1
        batch = Batch(f"batch_{number}", body, lines, self.fate(number), time.monotonic())
        late, self.late = self.late, 0.0
        if late:
            await asyncio.sleep(late)
            asyncio.get_running_loop().call_later(late / 2, self.batches.append, batch)
            return web.json_response(SERVER_ERROR, status=503, headers={"Retry-After": "0.1"})
        self.batches.append(batch)
        return web.json_response(self._object(batch))

    async def _list(self, request: web.Request) -> web.Response:
        newest = [self._object(batch) for batch in reversed(self.batches)]
        names = [each["id"] for each in newest]
        after = request.query.get("after")
        start = names.index(after) + 1 if after else 0
        page = newest[start : start + int(request.query.get("limit", 20))]
        return web.json_response({"object": "list", "data": page, "has_more": start + len(page) < len(newest)})

    async def _retrieve(self, request: web.Request) -> web.Response:
        for batch in self.batches:
            if batch.id == request.match_info["id"]:
                return web.json_response(self._object(batch))
        return web.json_response({"error": {"message": "No batch found"}}, status=404)

    def _object(self, batch: Batch) -> Body:
        has_ended = time.monotonic() >= batch.at + batch.fate.delay
        if has_ended and not batch.wire:
            batch.wire = self._run(batch)
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.created["endpoint"],
            "input_file_id": batch.created["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": 1,
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": len(batch.lines), "completed": 0, "failed": 0},
            "metadata": batch.created.get("metadata") if self.keeps_metadata else None,
            **batch.wire,
        }

    def _run(self, batch: Batch) -> Body:
        fate = batch.fate
        if fate.errors:
            return {"status": "failed", "errors": {"object": "list", "data": fate.errors}}
        ran = batch.lines[: fate.ran]
        output: list[str] = []
        failed: list[str] = []
        for line in ran:
            key = digest(line["body"])
            self.times[key] = self.times.get(key, 0) + 1
            act = self.plan(line["body"], self.times[key])
            body = completion(line["body"]) if act.payload is None else act.payload
            reply = {"status_code": act.status, "request_id": "r", "body": body}
            text = json.dumps({"id": "b", "custom_id": line["custom_id"], "response": reply, "error": None})
            is_billed = act.status < 300
            self.ran[key] += is_billed
            (output if is_billed else failed).append(text)
        for line in batch.lines[len(ran) :]:
            reason = {"code": f"batch_{fate.status}", "message": "not executed before the window ended"}
            entry = {"id": "b", "custom_id": line["custom_id"], "response": None, "error": reason}
            failed.append(json.dumps(entry))
        return {
            "status": fate.status,
            "output_file_id": self._file(fate.mangle(output)) if fate.names_output else None,
            "error_file_id": self._file(failed),
            "request_counts": {"total": len(batch.lines), "completed": len(output), "failed": len(failed)}
            if fate.counts is None
            else fate.counts,
        }

    def _file(self, lines: list[str]) -> str | None:
        return self._keep("".join(f"{line}\n" for line in lines).encode()) if lines else None


def batch_recipe(folder: Path, server: BatchServer, rows: int = ROWS, **sections: dict[str, Any]) -> Recipe:
    """A recipe whose teacher is asked in batches, for at most half a minute; `sections` change it."""
    teacher = {"batch": True, "batch_wait": 0.01, **sections.pop("teacher", {})}
    return recipe_of(folder, server.url, rows, teacher=teacher, **sections)


def billed(server: BatchServer) -> dict[str, int]:
    """How many requests were run, and how often the one that was run most often."""
    return {"requests": len(server.ran), "times": max(server.ran.values(), default=0)}


def reply(status: int, body: Any = None, text: str | None = None, **headers: str) -> web.Response:
    """What a route may answer instead."""
    content = json.dumps(body) if text is None else text
    return web.Response(text=content, status=status, headers=headers, content_type="application/json")
