"""The routes of OpenAI's batch interface: files that are uploaded and fetched, batches that are created and looked at.

https://platform.openai.com/docs/api-reference/batch. The calls block; they run in the event loop of a thread of their
own, so that Ctrl+C reaches the caller at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp

from cohobate.core import context, interrupts
from cohobate.core.errors import CohobateError, EndpointError, TeacherError
from cohobate.core.sanitize import one_line
from cohobate.teachers.endpoint import reply_body
from cohobate.teachers.endpoint.chat_reply import short
from cohobate.teachers.endpoint.client import secret
from cohobate.teachers.endpoint.connection import Connection, Reply
from cohobate.teachers.endpoint.fault import Fault, ReplyWithError, StatusError, fault_of
from cohobate.teachers.endpoint.rate_limit import backoff
from cohobate.teachers.endpoint.retry_policy import ServerWatch
from cohobate.teachers.endpoint.server_error import error_in
from cohobate.teachers.endpoint.wire import ReplyError

if TYPE_CHECKING:
    from cohobate.config import Teacher
    from cohobate.teachers.base import Limits

METADATA = "cohobate"  # the field of a batch's metadata that holds the key of its requests
COMPLETIONS = "/v1/chat/completions"  # as the interface names it, wherever the address ends
_ENDED = {"completed", "failed", "expired", "cancelled"}
_AMERICAN = {"canceled": "cancelled", "canceling": "cancelling"}  # of some servers
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,255}")
_LONGEST_BODY = 16 << 20  # a page of a hundred batches, each with its errors
_PAGE, _MOST_PAGES = 100, 1000
_SLOWEST = 100_000  # bytes a second of an upload
_MOST_COUNT = 10**9
_TOO_LARGE = 413  # the status of a reply to too long a body
_CLOSE_SECONDS = 2.0
_HEED_SECONDS = 0.2  # an interrupt that reaches another thread does not end a wait without a limit
# Errors of the server and of the way to it; not those of a full disk.
_OF_THE_CALL = (StatusError, ReplyWithError, ReplyError, aiohttp.ClientError, TimeoutError, ConnectionError)

Call = Callable[[Connection], Coroutine[Any, Any, Reply]]
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteBatch:
    """A batch as its server tells of it. errors: why it was refused, each as (code, message)."""

    id: str
    status: str
    key: str | None = None
    input_file: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED

    @property
    def is_of_use(self) -> bool:
        """Whether outcomes came of it, or may still come."""
        return not self.has_ended or self.output_file is not None or self._failed_alone

    @property
    def lacks_output(self) -> bool:
        """Whether there are responses that no file is named for."""
        return bool(self.completed) and self.output_file is None and not self._failed_alone

    @property
    def _failed_alone(self) -> bool:
        # Some servers count a request that failed as completed too.
        return self.error_file is not None and self.completed <= self.failed

    @classmethod
    def of(cls, payload: Any) -> RemoteBatch:
        """The batch in a reply. Raises ReplyError where there is none."""
        name = _identifier(payload.get("id")) if isinstance(payload, dict) else None
        status = payload.get("status") if isinstance(payload, dict) else None
        if name is None or not isinstance(status, str):
            raise ReplyError("MalformedReply", f"no batch: {short(payload)}", retry=False)
        metadata, counts = payload.get("metadata"), payload.get("request_counts")
        key = metadata.get(METADATA) if isinstance(metadata, dict) else None
        numbers = counts if isinstance(counts, dict) else {}
        return cls(
            id=name,
            status=_AMERICAN.get(word := one_line(status)[:40].lower(), word),
            key=key if isinstance(key, str) else None,
            input_file=_identifier(payload.get("input_file_id")),
            output_file=_identifier(payload.get("output_file_id")),
            error_file=_identifier(payload.get("error_file_id")),
            total=_count(numbers.get("total")),
            completed=_count(numbers.get("completed")),
            failed=_count(numbers.get("failed")),
            errors=tuple(_errors(payload.get("errors"))),
        )


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
        uploaded = _identifier(payload.get("id")) if isinstance(payload, dict) else None
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
        """Write a file of the server to `target`, or its first `most` bytes and some more. Raises RouteError."""

        async def fetch(connection: Connection) -> Reply:
            target.seek(0)
            target.truncate()
            path = f"/files/{quote(file, safe='')}/content"
            return await connection.download(path, target, most, _LONGEST_BODY, self.limits.timeout)

        self._patiently(fetch, most / _SLOWEST, is_json=False)
        target.seek(0)

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
            f"{self.url} has no batches ({reason}); set {section}.batch = false, or correct {section}.base_url"
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
            content = reply.content.replace(self.secret.encode(), b"***") if self.secret else reply.content
            payload = reply_body.parsed(content, _LONGEST_BODY) if is_json else None
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


def _getting(path: str) -> Call:
    return lambda connection: connection.get(path, _LONGEST_BODY)


def _readable(entries: list[Any]) -> Iterator[RemoteBatch]:
    for entry in entries[: 10 * _PAGE]:
        with suppress(ReplyError):
            yield RemoteBatch.of(entry)


def _identifier(value: Any) -> str | None:
    """An id that can stand in an address."""
    is_one = isinstance(value, str) and _ID.fullmatch(value) is not None and ".." not in value
    return value if is_one else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNT else 0


def _errors(value: Any) -> Iterator[tuple[str, str]]:
    """The first errors of a batch that was refused; the message says the line of the file, where one is named."""
    entries = value.get("data") if isinstance(value, dict) else value
    for each in entries[:5] if isinstance(entries, list) else []:
        if isinstance(each, dict):
            line = each.get("line")
            place = f"line {line}: " if isinstance(line, int) else ""
            yield one_line(each.get("code") or "")[:80], place + one_line(each.get("message") or "no message")[:300]
