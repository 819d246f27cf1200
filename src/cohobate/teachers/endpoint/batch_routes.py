"""The routes of OpenAI's batch interface: files that are uploaded and fetched, batches that are created and looked at.

https://platform.openai.com/docs/api-reference/batch. The calls block; they run in the event loop of a thread of their
own, so that Ctrl+C reaches the caller at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp

from cohobate.core import context, interrupts
from cohobate.core.errors import CohobateError, EndpointError, TeacherError
from cohobate.teachers.endpoint import reply_body
from cohobate.teachers.endpoint.chat_reply import short
from cohobate.teachers.endpoint.client import secret
from cohobate.teachers.endpoint.connection import Connection, Reply
from cohobate.teachers.endpoint.fault import Fault, ReplyWithError, StatusError, fault_of
from cohobate.teachers.endpoint.rate_limit import backoff
from cohobate.teachers.endpoint.remote_batch import METADATA, RemoteBatch, identifier
from cohobate.teachers.endpoint.retry_policy import ServerWatch
from cohobate.teachers.endpoint.server_error import error_in
from cohobate.teachers.endpoint.wire import ReplyError

if TYPE_CHECKING:
    from cohobate.config import Teacher
    from cohobate.teachers.base import Limits

COMPLETIONS = "/v1/chat/completions"  # as the interface names it, wherever the address ends
_LONGEST_BODY = 16 << 20  # a page of a hundred batches, each with its errors
_PAGE, _MOST_PAGES = 100, 1000
_SLOWEST = 100_000  # bytes a second of an upload
GONE = (404, 410)
_TOO_LARGE = 413  # the status of a reply to too long a body
_CLOSE_SECONDS = 2.0
_HEED_SECONDS = 0.2  # an interrupt that reaches another thread does not end a wait without a limit
# Errors of the server and of the way to it; not those of a full disk.
_OF_THE_CALL = (StatusError, ReplyWithError, ReplyError, aiohttp.ClientError, TimeoutError, ConnectionError)

Call = Callable[[Connection], Coroutine[Any, Any, Reply]]
T = TypeVar("T")


class RouteError(Exception):
    """One call failed: `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class BatchRoutes:
    """The routes of the first address of `teacher`. Raises EndpointError when the key's variable is not set."""

    def __init__(self, teacher: Teacher, limits: Limits) -> None:
        self.teacher, self.limits = teacher, limits
        self.url = teacher.base_urls[0].rstrip("/")
        self.watch = ServerWatch(self.url, teacher)
        self.secret = secret(teacher)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_replied = self._speaks_json = False

    def upload(self, name: str, file: IO[bytes], length: int) -> str:
        """Upload the `length` bytes of `file` under `name`; returns the id of the file. Raises a CohobateError."""

        async def send(connection: Connection) -> Reply:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            # The session closes what it has sent, and another attempt sends it again.
            with open(file.fileno(), "rb", closefd=False) as again:
                return await connection.upload("/files", {"purpose": "batch"}, name, again, _LONGEST_BODY)

        file.flush()
        try:
            payload = self._patiently(send, length / _SLOWEST)
        except RouteError as error:
            raise self._refusal(error.fault, "a file of requests") from None
        uploaded = identifier(payload.get("id")) if isinstance(payload, dict) else None
        if uploaded is None:
            raise self._without_batches(f"it takes a file, but gives it no id: {short(payload)}")
        return uploaded

    def create(self, file: str, key: str) -> RemoteBatch:
        """Submit the requests of an uploaded file, once. Raises RouteError; the batch may be there all the same."""
        body = {
            "input_file_id": file,
            "endpoint": COMPLETIONS,
            "completion_window": "24h",
            "metadata": {METADATA: key},
        }
        content = json.dumps(body).encode()
        return self._once(lambda connection: connection.post("/batches", content, _LONGEST_BODY), RemoteBatch.of)

    def retrieve(self, batch: str) -> RemoteBatch:
        """The batch of this id, asked for once. Raises RouteError."""
        path = f"/batches/{quote(batch, safe='')}"
        return self._once(lambda connection: connection.get(path, _LONGEST_BODY), RemoteBatch.of)

    def listed(self) -> Iterator[RemoteBatch]:
        """Every batch of the account. Raises EndpointError for a server without batches."""
        after, names = "", set[str]()
        for _ in range(_MOST_PAGES):
            path = f"/batches?{urlencode({'limit': _PAGE, **({'after': after} if after else {})})}"
            try:
                page = self._patiently(_getting(path))
            except RouteError as error:
                raise self._refusal(error.fault, "the list of its batches") from None
            entries = page.get("data") if isinstance(page, dict) else None
            if not isinstance(entries, list):
                raise self._without_batches(f"no list of batches: {short(page)}")
            fresh = [batch for batch in _readable(entries) if batch.id not in names]
            yield from fresh
            names.update(batch.id for batch in fresh)
            if page.get("has_more") is not True or not fresh:
                return
            after = fresh[-1].id
        raise EndpointError(
            f"{self.url} lists more than {_MOST_PAGES * _PAGE:,} batches; delete some, or use another key"
        )

    def download(self, file: str, target: IO[bytes], most: int) -> None:
        """Write a file of the server to `target`. Raises RouteError, also for one of more than `most` bytes."""

        async def fetch(connection: Connection) -> Reply:
            target.seek(0)
            target.truncate()
            return await connection.download(_content(file), target, most, _LONGEST_BODY, self.limits.timeout)

        self._patiently(fetch, most / _SLOWEST, is_json=False)
        target.seek(0)

    def has_file(self, file: str, patience: float) -> bool:
        """Whether the server gives a file, which not every part of a large one does at once: within so many seconds."""

        async def fetch(connection: Connection) -> Reply:
            with Path(os.devnull).open("wb") as nowhere:
                return await connection.download(_content(file), nowhere, 0, _LONGEST_BODY, self.limits.timeout)

        until = time.monotonic() + patience
        while True:
            try:
                self._once(fetch, lambda payload: payload, is_json=False)
            except RouteError as error:
                if error.fault.status not in GONE:  # among others the limit, after the first piece of it
                    return True
            else:
                return True
            if (left := until - time.monotonic()) <= 0:
                return False
            pause(min(1.0, left))

    def hidden(self, text: str) -> str:
        """What a server says, without the key."""
        return text.replace(self.secret, "***") if self.secret else text

    def error_of(self, fault: Fault, what: str) -> CohobateError:
        """The error to stop with after a call that failed for good."""
        verdict = self.watch.verdict(fault) if fault.status in (401, 403) or fault.spent else None
        if verdict is not None:
            return verdict
        section = self.teacher.section
        status = "" if fault.status is None else f"status {fault.status}: "
        if self._is_nowhere(fault):
            return EndpointError(
                f"nothing listens at {self.url} ({fault.message}); start the server, or correct {section}.base_url"
            )
        if fault.retry:
            return TeacherError(
                f"{self.url} does not give or take {what} at the moment ({status}{fault.message}); what was submitted "
                "goes on there, so run again later"
            )
        remedy = f"lower {section}.batch_requests" if fault.status == _TOO_LARGE else f"correct [{section}]"
        return EndpointError(f"{self.url} refuses {what} ({status}{fault.message}); {remedy}")

    def _refusal(self, fault: Fault, what: str) -> CohobateError:
        """The same, after a call that any server with batches takes."""
        if fault.status in (404, 405, 501) or fault.no_api or fault.error_class == "MalformedReply":
            return self._without_batches(fault.message if fault.status is None else f"status {fault.status}")
        return self.error_of(fault, what)

    def _without_batches(self, reason: str) -> EndpointError:
        section = self.teacher.section
        return EndpointError(
            f"{self.url} has no batches ({self.hidden(reason)}); set {section}.batch = false, or correct "
            f"{section}.base_url"
        )

    def _is_hopeless(self, fault: Fault) -> bool:
        """Whether another attempt is no use though this kind of fault may pass."""
        return fault.spent or self._is_nowhere(fault) or (fault.no_api and not self._speaks_json)

    def _is_nowhere(self, fault: Fault) -> bool:
        return fault.unreachable and not self._has_replied

    def close(self) -> None:
        """Give up what is under way."""
        if self._loop is not None:
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result(_CLOSE_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _patiently(self, send: Call, seconds: float = 0.0, *, is_json: bool = True) -> Any:
        """The JSON that a call gives, tried again as other requests are. Raises RouteError where that does not help."""
        waited = 0.0
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return self._once(send, lambda payload: payload, seconds, is_json=is_json)
            except RouteError as error:
                wait = backoff(attempt) if error.fault.wait is None else error.fault.wait
                waited += wait
                is_last = attempt == self.limits.attempts or waited > self.limits.max_wait
                if is_last or not error.fault.retry or self._is_hopeless(error.fault):
                    raise
            pause(wait)
        raise AssertionError("attempts are at least one")

    def _once(self, send: Call, read: Callable[[Any], T], seconds: float = 0.0, *, is_json: bool = True) -> T:
        """`read` of the JSON that one call gives. seconds: that it may take beside the timeout. Raises RouteError."""

        async def call() -> T:
            async with asyncio.timeout(self.limits.timeout + seconds):
                reply = await send(self._connection)
            self._has_replied = True
            if not 200 <= reply.status < 300:
                raise StatusError(reply)
            payload = reply_body.parsed(reply.content, _LONGEST_BODY) if is_json else None
            # A batch has a field `errors` of its own.
            if isinstance(payload, dict) and "status" not in payload and (error := error_in(payload)) is not None:
                raise ReplyWithError(error, reply.headers)
            value = read(payload)
            self._speaks_json = True
            return value

        if self._loop is None:
            self._start()
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        while not futures.wait([future], _HEED_SECONDS).done:
            interrupts.check()
        try:
            return future.result()
        except _OF_THE_CALL as error:
            raise RouteError(fault_of(error, self.secret, self.limits.timeout)) from error

    def _start(self) -> None:
        self._loop = loop = asyncio.new_event_loop()
        context.thread(loop.run_forever, "batches").start()

        async def connect() -> Connection:
            return Connection(self.url, self.secret, 1, asyncio.Lock())

        self._connection = asyncio.run_coroutine_threadsafe(connect(), loop).result()


def require_batches(teacher: Teacher, limits: Limits) -> str:
    """The finding in one phrase. Raises EndpointError for a server without batches."""
    routes = BatchRoutes(teacher, limits)
    try:
        next(routes.listed(), None)
    finally:
        routes.close()
    return f"{routes.url} has batches"


def pause(seconds: float) -> None:
    """Sleep, but heed an interrupt."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        interrupts.check()


def _content(file: str) -> str:
    return f"/files/{quote(file, safe='')}/content"


def _getting(path: str) -> Call:
    return lambda connection: connection.get(path, _LONGEST_BODY)


def _readable(entries: list[Any]) -> Iterator[RemoteBatch]:
    for entry in entries[: 10 * _PAGE]:
        with suppress(ReplyError):
            yield RemoteBatch.of(entry)
