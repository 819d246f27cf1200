"""Requests to the replicas of an endpoint: one task a request in flight, none for those that wait.

A row that failed waits its backoff in a heap and holds no slot; the next one goes to the server with the fewest
requests in flight. A server that nobody listens on is left alone for a while, and its rows lose no attempt.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx2
import openai

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError, TeacherError
from cohobate.core.progress import say
from cohobate.teachers.base import Limits
from cohobate.teachers.endpoint.chat_completions import Ended, GivenUp, Wire
from cohobate.teachers.endpoint.rate_limit import Pace, backoff
from cohobate.teachers.endpoint.retry_policy import Fault, Opening, fault_of

_PATIENCE = 10  # refusals that a row endures for each attempt it has
_WAITING = 8  # rows that wait for their next attempt, in ceilings, before no new ones are begun
_HEADERS = {"Content-Type": "application/json"}

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class Job(Generic[Q]):
    """A request on its way."""

    request: Q
    attempts: int = 0
    refusals: int = 0


@dataclass
class Server:
    """One replica."""

    client: openai.AsyncOpenAI
    pace: Pace
    opening: Opening
    in_flight: int = 0
    outages: int = 0  # in a row
    down_since: float = 0.0
    down_until: float = 0.0

    def room(self, now: float) -> bool:
        """Whether a request may be sent; a server that was away gets one to show that it is back."""
        return now >= self.down_until and self.in_flight < (1 if self.outages else int(self.pace.limit))


@dataclass
class Dispatch(Generic[Q, A]):
    """One pass over `requests`; each ends in `deliver` as what `wire` makes of it.

    last_answer: when the servers answered last, of time.monotonic; None if they never have.
    """

    servers: Sequence[Server]
    settings: Teacher
    limits: Limits
    secret: str | None
    wire: Wire[Q, A]
    deliver: Callable[[A], None]
    last_answer: float | None = None
    later: list[tuple[float, int, Job[Q]]] = field(default_factory=list)
    again: deque[Job[Q]] = field(default_factory=deque)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: Exception | None = None
    tickets: int = 0
    begun: int = 0

    async def run(self, requests: Sequence[Q]) -> None:
        """Raises EndpointError or TeacherError when it is no use to go on."""
        try:
            while self.fatal is None and (self.begun < len(requests) or self.again or self.later or self.running):
                self.wake.clear()
                wait = self._send_ready(requests)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self.wake.wait()
        finally:
            for task in self.running:
                task.cancel()
            await asyncio.gather(*self.running, return_exceptions=True)
        if self.fatal is not None:
            raise self.fatal

    def _send_ready(self, requests: Sequence[Q]) -> float | None:
        """Start what there is room for; returns the seconds after which there may be more to start."""
        now = time.monotonic()
        while server := self._free(now):
            job = self._next(requests, now)
            if job is None:
                break
            server.in_flight += 1
            task = asyncio.create_task(self._attempt(job, server))
            self.running.add(task)
            task.add_done_callback(self._done)
        moments = [server.down_until for server in self.servers if server.down_until > now]
        moments += [self.later[0][0]] if self.later else []
        due = [moment - now for moment in moments if moment > now]
        return min(due, default=None)

    def _free(self, now: float) -> Server | None:
        """The server with room and the fewest requests in flight."""
        free = [server for server in self.servers if server.room(now)]
        return min(free, key=lambda server: server.in_flight, default=None)

    def _next(self, requests: Sequence[Q], now: float) -> Job[Q] | None:
        if self.again:
            return self.again.popleft()
        if self.later and self.later[0][0] <= now:
            return heapq.heappop(self.later)[2]
        if self.begun < len(requests) and len(self.later) < _WAITING * self.limits.concurrency:
            self.begun += 1
            return Job(requests[self.begun - 1])
        return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.fatal = self.fatal or (error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self.wake.set()

    async def _attempt(self, job: Job[Q], server: Server) -> None:
        sent = time.monotonic()
        job.attempts += 1
        try:
            async with asyncio.timeout(self.limits.timeout):
                outcome = await self._post(job, server, sent)
        except Exception as error:  # whatever it is, it is this row's, and is recorded
            self._failed(job, server, fault_of(error, self.secret, self.limits.timeout), sent)
        else:
            self.last_answer = time.monotonic()
            server.opening.answered, server.outages = True, 0
            server.pace.answered()
            self.deliver(outcome)
        finally:
            server.in_flight -= 1

    async def _post(self, job: Job[Q], server: Server, sent: float) -> A:
        # The client's own `post` skips the transformation of parameters and the models of responses, which would
        # cost more than all the rest and reject what is not quite OpenAI's.
        response = await server.client.post(
            self.wire.path,
            cast_to=httpx2.Response,
            content=json.dumps(self.wire.body(job.request), ensure_ascii=False).encode(),
            options={"headers": _HEADERS},
        )
        ended = Ended(job.attempts, (time.monotonic() - sent) * 1000)
        return self.wire.answered(job.request, json.loads(response.content), ended)

    def _failed(self, job: Job[Q], server: Server, fault: Fault, sent: float) -> None:
        now = time.monotonic()
        if fault.unreachable:
            job.attempts -= 1
            self.again.append(job)
            self._missed(server, fault, sent, now)
            return
        server.outages = 0
        self.fatal = self.fatal or server.opening.verdict(fault)
        if self.fatal is not None:
            return  # delivered, the failures of one moment would be reported as many bad rows
        if fault.congested or fault.refused:
            server.pace.refused(sent, now)
        job.refusals += fault.refused
        faults, allowed = job.attempts - job.refusals, self.limits.attempts
        if not fault.retry or faults >= allowed or job.refusals >= _PATIENCE * allowed:
            why = GivenUp(fault.error_class, fault.status, fault.message, job.attempts)
            self.deliver(self.wire.failed(job.request, why))
            return
        self.tickets += 1
        # The jitter comes on top of what the server asks for: else all come back at the same moment.
        wait = backoff(job.attempts) if fault.wait is None else fault.wait * (1 + 0.1 * backoff(1))
        heapq.heappush(self.later, (now + wait, self.tickets, job))

    def _missed(self, server: Server, fault: Fault, sent: float, now: float) -> None:
        """Nobody listens at `server`."""
        if sent < server.down_since:
            return
        if not server.outages:
            others = len(self.servers) > 1 or self.last_answer is not None
            if others:
                say(f"nobody listens at {server.opening.url} ({fault.message}); trying again")
        server.outages += 1
        server.down_since, server.down_until = now, now + backoff(server.outages)
        if not all(other.outages for other in self.servers):
            return
        urls = ", ".join(other.opening.url for other in self.servers)
        if self.last_answer is None:
            self.fatal = EndpointError(
                f"nobody listens at {urls} ({fault.message}); start the server, or correct "
                f"{self.settings.section}.base_url"
            )
        elif now - self.last_answer > self.limits.timeout:
            self.fatal = TeacherError(
                f"{urls} went away {now - self.last_answer:.0f} s ago; what it answered is kept, so start it again "
                "and run again"
            )
