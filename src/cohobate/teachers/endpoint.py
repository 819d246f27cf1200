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

import httpx2
import openai

from cohobate.config import Teacher
from cohobate.errors import EndpointError
from cohobate.teachers.base import Failure, Limits, Request, Response
from cohobate.teachers.dispatch import Dispatch, Server
from cohobate.teachers.faults import Opening
from cohobate.teachers.pacing import Pace

_GATHER_SECONDS = 0.02  # a sync takes a few milliseconds; a kill loses what came since the last one
_CONNECT_SECONDS = 10.0

Batch = list[Response | Failure]


class EndpointTeacher:
    """Asks one or several replicas of an endpoint. One `answer` at a time.

    Raises EndpointError at once when the key's environment variable is not set.
    """

    engine_version = f"openai {openai.__version__}"

    def __init__(self, settings: Teacher, limits: Limits) -> None:
        self.settings, self.limits = settings, limits
        self._secret = _secret(settings)
        self._arrived: queue.SimpleQueue[Response | Failure | None] = queue.SimpleQueue()
        self._held: Batch = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()

    def answer(self, requests: Sequence[Request]) -> Iterator[Batch]:
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

    def stop(self) -> Batch:
        """Give up what is in flight; returns what had arrived, a batch that was being stored included."""
        if self._thread is not None and self._thread.is_alive() and self._begun.wait(_CONNECT_SECONDS):
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
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

    def _work(self, requests: Sequence[Request]) -> None:
        try:
            asyncio.run(self._main(requests))
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._arrived.put(None)

    async def _main(self, requests: Sequence[Request]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._task = asyncio.get_running_loop(), task
        self._begun.set()
        servers = [self._server(url) for url in self.settings.base_urls]
        try:
            await Dispatch(servers, self.settings, self.limits, self._secret, self._arrived.put).run(requests)
        finally:
            for server in servers:
                await server.client.close()

    def _server(self, url: str) -> Server:
        ceiling = max(1, self.limits.concurrency // len(self.settings.base_urls))
        client = openai.AsyncOpenAI(
            base_url=url,
            api_key=self._secret or "none",  # never that of another provider from the environment
            max_retries=0,  # retries are counted, paced and recorded here
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=ceiling)),
        )
        return Server(client, Pace(ceiling), Opening(url, self.settings))


def _secret(settings: Teacher) -> str | None:
    name = settings.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise EndpointError(
            f"{settings.section}.api_key_env names {name}, which is not set; set it to the endpoint's key"
        )
    return value
