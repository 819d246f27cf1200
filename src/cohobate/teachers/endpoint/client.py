"""A teacher behind an OpenAI-compatible address: `vllm serve`, SGLang, llama.cpp, a provider.

The requests run in the event loop of a thread of their own. The caller's thread stores the outcomes, in batches that
are synced together, so that neither thread waits for the other, and Ctrl+C reaches the caller.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

import aiohttp

from cohobate.config import Teacher
from cohobate.core import context
from cohobate.core.errors import EndpointError
from cohobate.teachers.base import Failure, Limits, Request, Response
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.connection import CONNECT_SECONDS, Connection
from cohobate.teachers.endpoint.dispatch import Dispatch, Server
from cohobate.teachers.endpoint.rate_limit import Pace
from cohobate.teachers.endpoint.retry_policy import ServerWatch
from cohobate.teachers.endpoint.wire import Wire

_GATHER_SECONDS = 0.02  # a sync takes a few milliseconds; a kill loses the outcomes since the last one
_KEY = re.compile("[!-~]+")  # what may stand in a header

Q = TypeVar("Q")
A = TypeVar("A")


class Exchange(Generic[Q, A]):
    """Sends requests over `wire` to the replicas of an endpoint. One `answer` at a time.

    Raises EndpointError at once when the key's environment variable is not set.
    """

    def __init__(self, teacher: Teacher, limits: Limits, wire: Wire[Q, A]) -> None:
        self.teacher, self.limits, self.wire = teacher, limits, wire
        self._secret = secret(teacher)
        self._arrivals: queue.SimpleQueue[A | None] = queue.SimpleQueue()
        self._batch: list[A] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._running = threading.Event()
        ceiling = max(1, limits.concurrency // len(teacher.base_urls))
        self._replicas = [(Pace(ceiling), ServerWatch(url, teacher)) for url in teacher.base_urls]

    def answer(self, requests: Iterable[Q]) -> Iterator[list[A]]:
        """The outcome of each request, in batches as they arrive. Raises EndpointError and TeacherError of Dispatch."""
        self._running.clear()
        self._thread = context.thread(partial(self._work, requests), "endpoint")
        self._thread.start()
        ended = False
        while not ended:
            ended = self._gather()
            if self._batch:
                yield self._batch
            self._batch = []
        self._thread.join()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Give up the requests in flight, from any thread: `answer` ends with the outcomes that have arrived."""
        if self._thread is not None and self._thread.is_alive() and self._running.wait(CONNECT_SECONDS):
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)

    def stop(self) -> list[A]:
        """Give up the requests in flight; returns the outcomes that had arrived, the last batch included."""
        self.cancel()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(CONNECT_SECONDS)
        self._drain()
        rest, self._batch = self._batch, []
        return rest

    def _gather(self) -> bool:
        """Wait for an outcome and add those that follow closely; True when no more will come."""
        first = self._arrivals.get()
        if first is None:
            return True
        self._batch.append(first)
        time.sleep(_GATHER_SECONDS)
        return self._drain()

    def _drain(self) -> bool:
        with suppress(queue.Empty):
            while (item := self._arrivals.get_nowait()) is not None:
                self._batch.append(item)
            return True
        return False

    def _work(self, requests: Iterable[Q]) -> None:
        try:
            asyncio.run(self._main(requests))
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._arrivals.put(None)

    async def _main(self, requests: Iterable[Q]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._task = asyncio.get_running_loop(), task
        self._running.set()
        long_bodies = asyncio.Lock()
        servers = [
            Server(Connection(watch.url, self._secret, pace.ceiling, long_bodies), pace, watch)
            for pace, watch in self._replicas
        ]
        # Servers that have replied before may be away for a while at the beginning too.
        last = time.monotonic() if any(watch.has_replied for _, watch in self._replicas) else None
        dispatch = Dispatch(
            servers, self.teacher, self.limits, self._secret, self.wire, self._arrivals.put, last_reply=last
        )
        try:
            await dispatch.run(requests)
        finally:
            for server in servers:
                await server.connection.close()


class EndpointTeacher(Exchange[Request, Response | Failure]):
    """The backend of a teacher behind an endpoint: its responses from chat completions."""

    engine_version = f"aiohttp {aiohttp.__version__}"

    def __init__(self, teacher: Teacher, limits: Limits) -> None:
        super().__init__(teacher, limits, ChatWire(teacher))


def secret(teacher: Teacher) -> str | None:
    """The key of the endpoint, if it needs one. Raises EndpointError when its variable holds none."""
    name = teacher.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise EndpointError(
            f"{teacher.section}.api_key_env names {name}, which is not set; set it to the endpoint's key"
        )
    if not _KEY.fullmatch(value):  # the message does not show it
        raise EndpointError(
            f"{name} holds no key: there is a line end, a space or another character in it that no key has; set it to "
            "the endpoint's key alone"
        )
    return value
