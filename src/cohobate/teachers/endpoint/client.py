"""A teacher behind an OpenAI-compatible address: `vllm serve`, SGLang, llama.cpp, a provider.

The requests run in an event loop of a thread of their own. The caller's thread stores what arrives, in batches that
are synced together, so that neither waits for the other, and Ctrl+C reaches the caller.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import httpx2
import openai

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError
from cohobate.teachers.base import Failure, Limits, Request, Response
from cohobate.teachers.endpoint.chat_completions import Chat, Wire
from cohobate.teachers.endpoint.dispatch import Dispatch, Server
from cohobate.teachers.endpoint.rate_limit import Pace
from cohobate.teachers.endpoint.retry_policy import Opening

_GATHER_SECONDS = 0.02  # a sync takes a few milliseconds; a kill loses what came since the last one
_CONNECT_SECONDS = 10.0

Q = TypeVar("Q")
A = TypeVar("A")


class Exchange(Generic[Q, A]):
    """Asks one or several replicas of an endpoint over `wire`. One `answer` at a time.

    Raises EndpointError at once when the key's environment variable is not set.
    """

    def __init__(self, settings: Teacher, limits: Limits, wire: Wire[Q, A]) -> None:
        self.settings, self.limits, self.wire = settings, limits, wire
        self._secret = secret(settings)
        self._arrived: queue.SimpleQueue[A | None] = queue.SimpleQueue()
        self._held: list[A] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        ceiling = max(1, limits.concurrency // len(settings.base_urls))
        self._known = [(Pace(ceiling), Opening(url, settings)) for url in settings.base_urls]

    def answer(self, requests: Sequence[Q]) -> Iterator[list[A]]:
        """What came of each request, in batches as they arrive. Raises what Dispatch does."""
        self._begun.clear()
        self._thread = threading.Thread(target=self._work, args=(requests,), name="endpoint", daemon=True)
        self._thread.start()
        ended = False
        while not ended:
            ended = self._gather()
            if self._held:
                yield self._held
            self._held = []
        self._thread.join()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Give up what is in flight, from any thread: `answer` ends with what has arrived."""
        if self._thread is not None and self._thread.is_alive() and self._begun.wait(_CONNECT_SECONDS):
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)

    def stop(self) -> list[A]:
        """Give up what is in flight; returns what had arrived, a batch that was being stored included."""
        self.cancel()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(_CONNECT_SECONDS)
        self._drain()
        rest, self._held = self._held, []
        return rest

    def _gather(self) -> bool:
        """Wait for something to arrive and collect what comes with it; True when nothing more will come."""
        first = self._arrived.get()
        if first is None:
            return True
        self._held.append(first)
        time.sleep(_GATHER_SECONDS)
        return self._drain()

    def _drain(self) -> bool:
        with suppress(queue.Empty):
            while (item := self._arrived.get_nowait()) is not None:
                self._held.append(item)
            return True
        return False

    def _work(self, requests: Sequence[Q]) -> None:
        try:
            asyncio.run(self._main(requests))
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._arrived.put(None)

    async def _main(self, requests: Sequence[Q]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._task = asyncio.get_running_loop(), task
        self._begun.set()
        servers = [self._server(pace, opening) for pace, opening in self._known]
        # Servers that have answered before may be away for a while at the beginning too.
        last = time.monotonic() if any(opening.answered for _, opening in self._known) else None
        dispatch = Dispatch(
            servers, self.settings, self.limits, self._secret, self.wire, self._arrived.put, last_answer=last
        )
        try:
            await dispatch.run(requests)
        finally:
            for server in servers:
                await server.client.close()

    def _server(self, pace: Pace, opening: Opening) -> Server:
        client = openai.AsyncOpenAI(
            base_url=opening.url,
            api_key=self._secret or "none",  # never that of another provider from the environment
            max_retries=0,  # retries are counted, paced and recorded here
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=pace.ceiling)),
        )
        return Server(client, pace, opening)


class EndpointTeacher(Exchange[Request, Response | Failure]):
    """A teacher's responses from chat completions."""

    engine_version = f"openai {openai.__version__}"

    def __init__(self, settings: Teacher, limits: Limits) -> None:
        super().__init__(settings, limits, Chat(settings))


def secret(settings: Teacher) -> str | None:
    """The key of the endpoint, if it needs one. Raises EndpointError when its variable is not set."""
    name = settings.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise EndpointError(
            f"{settings.section}.api_key_env names {name}, which is not set; set it to the endpoint's key"
        )
    return value
