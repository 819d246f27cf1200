"""Requests to the replicas of an endpoint: one task per request in flight, none for those that wait.

A request that failed waits out its backoff in a heap and holds no slot; the next one goes to the server with the fewest
requests in flight. A server that cannot be reached is left alone for a while, and its requests lose no attempt.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from cohobate.config import Teacher
from cohobate.core.errors import EndpointError, TeacherError
from cohobate.core.formatting import duration
from cohobate.core.progress import say
from cohobate.teachers.base import Limits
from cohobate.teachers.endpoint import reply_body
from cohobate.teachers.endpoint.connection import Connection
from cohobate.teachers.endpoint.fault import Fault, ReplyWithError, StatusError, fault_of
from cohobate.teachers.endpoint.rate_limit import Pace, backoff
from cohobate.teachers.endpoint.refused_parameter import setting_of
from cohobate.teachers.endpoint.retry_policy import ServerWatch
from cohobate.teachers.endpoint.server_error import error_in
from cohobate.teachers.endpoint.wire import FailureCause, Timing, Wire

_PATIENCE = 10  # refusals that a request endures for each attempt it has
_WAITING = 8  # requests that wait for their next attempt, in multiples of the concurrency, before no new ones begin
_SILENT_SECONDS = 5.0  # shorter waits are not worth a line
_QUIET_SECONDS = 60.0  # between two lines about waiting
_DRAIN_SECONDS = 10.0  # for replies that are under way, and paid, when the account is spent

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class Job(Generic[Q]):
    """A request on its way. waited: seconds that it was asked to wait."""

    request: Q
    attempts: int = 0
    refusals: int = 0
    waited: float = 0.0


@dataclass
class Server:
    """One replica."""

    connection: Connection
    pace: Pace
    watch: ServerWatch
    in_flight: int = 0
    outages: int = 0  # one after the other
    down_since: float = 0.0
    down_until: float = 0.0

    def room(self, now: float) -> bool:
        """Whether a request may be sent; a server that was away gets one, which shows whether it is back."""
        return now >= self.down_until and self.in_flight < (1 if self.outages else int(self.pace.limit))


@dataclass
class Dispatch(Generic[Q, A]):
    """One pass over requests; `deliver` gets the outcome of each, in the form of `wire`.

    last_reply: the time of the servers' last reply, of time.monotonic; None if there was none.
    """

    servers: Sequence[Server]
    teacher: Teacher
    limits: Limits
    secret: str | None
    wire: Wire[Q, A]
    deliver: Callable[[A], None]
    last_reply: float | None = None
    later: list[tuple[float, int, Job[Q]]] = field(default_factory=list)
    again: deque[Job[Q]] = field(default_factory=deque)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: Exception | None = None
    is_spent: bool = False
    quiet_until: float = 0.0
    tickets: int = 0
    are_all_begun: bool = False

    async def run(self, requests: Iterable[Q]) -> None:
        """Raises EndpointError or TeacherError when it is no use to go on."""
        unread = iter(requests)
        try:
            while self.fatal is None:
                self.wake.clear()
                wait = self._send_ready(unread)
                if self.are_all_begun and not (self.again or self.later or self.running):
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self.wake.wait()
            if self.is_spent and self.running:
                await asyncio.wait(self.running, timeout=_DRAIN_SECONDS)
        finally:
            for task in self.running:
                task.cancel()
            await asyncio.gather(*self.running, return_exceptions=True)
        if self.fatal is not None:
            raise self.fatal

    def _send_ready(self, unread: Iterator[Q]) -> float | None:
        """Start what there is room for; returns the seconds after which there may be more to start."""
        now = time.monotonic()
        while server := self._free(now):
            job = self._next(unread, now)
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

    def _next(self, unread: Iterator[Q], now: float) -> Job[Q] | None:
        if self.again:
            return self.again.popleft()
        if self.later and self.later[0][0] <= now:
            return heapq.heappop(self.later)[2]
        if not self.are_all_begun and len(self.later) < _WAITING * self.limits.concurrency:
            for request in unread:
                return Job(request)
            self.are_all_begun = True
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
        except Exception as error:  # of any kind: it belongs to this request, and is recorded
            self._failed(job, server, fault_of(error, self.secret, self.limits.timeout), sent)
        else:
            self.last_reply = time.monotonic()
            server.outages = 0
            server.watch.count_reply()
            server.pace.count_reply()
            self.deliver(outcome)
        finally:
            server.in_flight -= 1

    async def _post(self, job: Job[Q], server: Server, sent: float) -> A:
        limit = self.wire.longest_body(job.request)
        body = json.dumps(self.wire.body(job.request), ensure_ascii=False).encode()
        reply = await server.connection.post(self.wire.path, body, limit)
        if not 200 <= reply.status < 300:
            raise StatusError(reply)
        timing = Timing(job.attempts, (time.monotonic() - sent) * 1000)
        payload = reply_body.parsed(reply.content, limit)
        if (error := error_in(payload)) is not None:
            raise ReplyWithError(error, reply.headers)
        return self.wire.outcome(job.request, payload, timing)

    def _failed(self, job: Job[Q], server: Server, fault: Fault, sent: float) -> None:
        now = time.monotonic()
        if fault.unreachable:
            job.attempts -= 1
            self.again.append(job)
            self._outage(server, fault, sent, now)
            return
        server.outages = 0
        fault = replace(fault, advice=setting_of(fault, self.wire.parameters(job.request), self.teacher))
        self.fatal = self.fatal or server.watch.verdict(fault)
        self.is_spent = self.is_spent or fault.spent
        if self.fatal is not None:
            return  # delivered, the failures of one moment would be reported as many bad requests
        if fault.congested or fault.refused:
            server.pace.count_refusal(sent, now)
        elif not server.watch.has_replied:
            server.pace.count_early_failure()
        job.refusals += fault.refused
        faults, allowed = job.attempts - job.refusals, self.limits.attempts
        if not fault.retry or faults >= allowed or job.refusals >= _PATIENCE * allowed:
            self._give_up(job, fault, fault.message if fault.advice is None else f"{fault.message}; {fault.advice}")
            return
        wait = backoff(job.attempts) if fault.wait is None else fault.wait
        if fault.refused:
            self._wait(job, server, fault, wait, now)
        else:
            self._later(job, now + wait)

    def _wait(self, job: Job[Q], server: Server, fault: Fault, wait: float, now: float) -> None:
        """Let a request wait as the server asks for, and say so; or give it up where that is too long."""
        longest, setting = self.limits.max_wait, f"{self.teacher.limits_section}.max_wait"
        job.waited += wait
        if job.waited > longest:
            reason = (
                f"it was asked to wait {duration(job.waited)} ({fault.message}), longer than {setting} = {longest:g} s"
            )
            self._give_up(job, fault, reason)
            self.fatal = self.fatal or server.watch.give_up_waiting(fault, wait)
            return
        # The jitter comes on top of what the server asks for: else all come back at the same moment.
        self._later(job, now + wait if fault.wait is None else now + wait * (1 + 0.1 * backoff(1)))
        if wait >= _SILENT_SECONDS and now >= self.quiet_until:
            self.quiet_until = now + _QUIET_SECONDS
            say(
                f"{server.watch.url} asks to wait {duration(wait)} (status {fault.status}: {fault.message}); requests "
                f"that wait: {len(self.later)}; the longest wait, by {setting}: {longest:g} s"
            )

    def _give_up(self, job: Job[Q], fault: Fault, message: str) -> None:
        self.deliver(
            self.wire.failure(job.request, FailureCause(fault.error_class, fault.status, message, job.attempts))
        )

    def _later(self, job: Job[Q], moment: float) -> None:
        self.tickets += 1
        heapq.heappush(self.later, (moment, self.tickets, job))

    def _outage(self, server: Server, fault: Fault, sent: float, now: float) -> None:
        """Nothing listens at `server`."""
        if sent < server.down_since:
            return
        if not server.outages:
            others = len(self.servers) > 1 or self.last_reply is not None
            if others:
                say(f"nothing listens at {server.watch.url} ({fault.message}); trying again")
        server.outages += 1
        server.down_since, server.down_until = now, now + backoff(server.outages)
        if not all(other.outages for other in self.servers):
            return
        urls = ", ".join(other.watch.url for other in self.servers)
        if self.last_reply is None:
            self.fatal = EndpointError(
                f"nothing listens at {urls} ({fault.message}); start the server, or correct "
                f"{self.teacher.section}.base_url"
            )
        elif now - self.last_reply > self.limits.timeout:
            self.fatal = TeacherError(
                f"{urls} went away {now - self.last_reply:.0f} s ago; what it answered is kept, so start it again "
                "and run again"
            )
