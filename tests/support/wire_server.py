"""A server that speaks OpenAI's wire over real sockets, does wrong what a test asks for, and keeps count.

It answers chats, and scores token ids as vLLM does, by a rule instead of a model.
"""

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]


@dataclass
class Act:
    """What the server does with a request."""

    payload: Any = None  # None: a completion
    raw: str | None = None  # instead of JSON
    content: Iterable[bytes] | None = None  # the body's pieces, instead of JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: bool = False
    tear: bool = False  # close without a word
    halfway: bool = False  # close in the middle of the body
    trickle: float = 0.0  # seconds between two pieces of the body


@dataclass
class Seen:
    """A request as the server saw it; times are of time.monotonic."""

    body: Body
    key: str
    headers: dict[str, str]
    received: float
    answered: float | None = None
    status: int | None = None


Plan = Callable[[Body, int], Act]


def digest(body: Body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def completion(body: Body, content: Any = None, **changes: Any) -> Any:
    """A chat completion whose text depends on the request alone; `changes` are fields of its message or itself."""
    number = int(digest(body)[:6], 16) % 1000
    text = f"I think of {number}.\nAnswer: {number}" if content is None else content
    top = {name: changes.pop(name) for name in ("model", "usage", "choices") if name in changes}
    finish_reason = changes.pop("finish_reason", "stop")
    message = {"role": "assistant", "content": text, **changes}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
        **top,
    }


def logprob(token: int, place: int) -> float:
    """What the server gives for `token` at `place` of a prompt."""
    return -((token * 7 + place) % 11) / 10 - 0.5


def likeliest(place: int, k: int) -> dict[int, float]:
    """Its k likeliest tokens there, less likely from one to the next, all but the first ones likelier than others."""
    return {place + n: -0.1 - n / 100 for n in range(k)}


def scored(body: Body, decoded: Callable[[int], str | None] = lambda token: None) -> Any:
    """A completion with the log-probabilities of its prompts, which are lists of ids."""

    def place(at: int, token: int) -> Any:
        found = {token: logprob(token, at), **likeliest(at, body["prompt_logprobs"])}
        return {str(t): {"logprob": value, "decoded_token": decoded(t)} for t, value in found.items()}

    return {
        "object": "text_completion",
        "model": body["model"],
        "choices": [
            {
                "index": index,
                "text": "",
                "finish_reason": "length",
                "prompt_token_ids": ids,
                "prompt_logprobs": [None, *(place(at, token) for at, token in enumerate(ids) if at)],
            }
            for index, ids in enumerate(body["prompt"])
        ],
    }


class WireServer:
    """`plan` says what to do with a body that comes for the n-th time (from 1); `seen` is all that came."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.plan: Plan = plan or (lambda body, time: Act())
        self.seen: list[Seen] = []
        self.times: dict[str, int] = {}
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self.pages: dict[str, Any] = {}  # what GET returns, by path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def keys(self) -> list[str]:
        return [seen.key for seen in self.seen]

    @contextmanager
    def running(self) -> "Iterator[WireServer]":
        """The server listens while the block runs, on the same port whenever it does."""
        loop, listening = asyncio.new_event_loop(), threading.Event()
        ending = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(self._serve(listening, ending)))
        thread.start()
        assert listening.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(ending.set)
            thread.join(10)
            loop.close()

    def add_routes(self, app: web.Application) -> None:
        """Further routes, of a server that has some."""

    async def _serve(self, listening: threading.Event, ending: asyncio.Event) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        self.add_routes(app)
        app.router.add_get("/{path:.*}", self._page)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        listening.set()
        await ending.wait()
        await runner.cleanup()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        found = self.pages.get(request.path)
        return web.Response(status=404) if found is None else web.json_response(found)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        received = time.monotonic()
        body = await request.json()
        seen = Seen(body, digest(body), dict(request.headers), received)
        self.seen.append(seen)
        self.times[seen.key] = self.times.get(seen.key, 0) + 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            act = self.plan(body, self.times[seen.key])
            await asyncio.sleep(3600 if act.hang else act.delay)
            seen.status = act.status
            return await self._send(request, body, act)
        finally:
            seen.answered = time.monotonic()
            self.in_flight -= 1

    async def _send(self, request: web.Request, body: Body, act: Act) -> web.StreamResponse:
        usual = scored if "prompt_logprobs" in body else completion
        text = json.dumps(usual(body) if act.payload is None else act.payload) if act.raw is None else act.raw
        if not (act.tear or act.halfway or act.trickle or act.content):
            return web.Response(text=text, status=act.status, headers=act.headers, content_type="application/json")
        if act.tear:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if act.content is not None:
            return await self._stream(request, act)
        response = web.StreamResponse(headers={"Content-Length": str(len(text.encode()))})
        await response.prepare(request)
        for at in range(0, len(text), 40):
            await response.write(text[at : at + 40].encode())
            await asyncio.sleep(act.trickle)
            if act.halfway:
                assert request.transport is not None
                request.transport.close()
                break
        return response

    async def _stream(self, request: web.Request, act: Act) -> web.StreamResponse:
        response = web.StreamResponse(status=act.status, headers={"Content-Type": "application/json", **act.headers})
        await response.prepare(request)
        for piece in act.content or ():
            await response.write(piece)
        await response.write_eof()
        return response


def error(status: int, message: str, code: str | None = None, **headers: str) -> Act:
    """An error as OpenAI words it."""
    payload = {"error": {"message": message, "type": "error", "code": code}}
    return Act(payload=payload, status=status, headers={name.replace("_", "-"): v for name, v in headers.items()})


def unused_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        port: int = it.getsockname()[1]
        return port
