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

import httpx2
import openai

from cohobate.config import Teacher
from cohobate.errors import EndpointError, TeacherError
from cohobate.progress import say
from cohobate.teachers.base import Failure, Limits, Request, Response
from cohobate.teachers.faults import Fault, Opening, fault_of
from cohobate.teachers.pacing import Pace, backoff
from cohobate.teachers.wire import Reply, body, read

_PATIENCE = 10  # refusals that a row endures for each attempt it has
_WAITING = 8  # rows that wait for their next attempt, in ceilings, before no new ones are begun
_HEADERS = {"Content-Type": "application/json"}


@dataclass
class Job:
    """A request on its way."""

    request: Request
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
class Dispatch:
    """One pass over `requests`; each ends in `deliver` as a Response or a Failure."""

    servers: Sequence[Server]
    settings: Teacher
    limits: Limits
    secret: str | None
    deliver: Callable[[Response | Failure], None]
    later: list[tuple[float, int, Job]] = field(default_factory=list)
    again: deque[Job] = field(default_factory=deque)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: Exception | None = None
    last_answer: float | None = None
    tickets: int = 0
    begun: int = 0

    async def run(self, requests: Sequence[Request]) -> None:
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

    def _send_ready(self, requests: Sequence[Request]) -> float | None:
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

    def _next(self, requests: Sequence[Request], now: float) -> Job | None:
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

    async def _attempt(self, job: Job, server: Server) -> None:
        sent = time.monotonic()
        job.attempts += 1
        try:
            async with asyncio.timeout(self.limits.timeout):
                reply = await self._post(job, server)
        except Exception as error:  # whatever it is, it is this row's, and is recorded
            self._failed(job, server, fault_of(error, self.secret, self.limits.timeout), sent)
        else:
            self._answered(job, server, reply, sent)
        finally:
            server.in_flight -= 1

    async def _post(self, job: Job, server: Server) -> Reply:
        # The client's own `post` skips the transformation of parameters and the models of responses, which would
        # cost more than all the rest and reject what is not quite OpenAI's.
        response = await server.client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=json.dumps(body(job.request, self.settings), ensure_ascii=False).encode(),
            options={"headers": _HEADERS},
        )
        return read(json.loads(response.content), self.settings)

    def _answered(self, job: Job, server: Server, reply: Reply, sent: float) -> None:
        self.last_answer = now = time.monotonic()
        server.opening.answered, server.outages = True, 0
        server.pace.answered()
        self.deliver(
            Response(
                key=job.request.key,
                text=reply.text,
                reasoning=reply.reasoning,
                finish_reason=reply.finish_reason,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                latency_ms=(now - sent) * 1000,
                attempts=job.attempts,
                reasoning_tokens=reply.reasoning_tokens,
                served_model=reply.model,
            )
        )

    def _failed(self, job: Job, server: Server, fault: Fault, sent: float) -> None:
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
            failure = Failure(job.request, fault.error_class, fault.status, fault.message, job.attempts)
            self.deliver(failure)
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
