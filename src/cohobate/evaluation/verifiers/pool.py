"""A pool of verification workers that can be killed: a case that hangs or crashes costs its own verdict, no other.

Workers are processes with their own session and program (no fork, no import of the caller's `__main__`), so that they
work from threads and Prefect tasks, and Ctrl+C reaches only the caller, who ends them. Each case has `seconds` of
processor time, which do not run while the machine is busy with other work, and `_WALL` times as long on the clock.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cohobate.core.errors import CohobateError, VerifierError
from cohobate.evaluation.verifiers.verdict import Verdict

_WALL = 4.0
_START_SECONDS = 120.0
_STARTS = 3  # so many workers that die in a row while they start
_TIME_OUT = Verdict("undecided", "time-out")
_DIED = "the worker died"
_TIMERS = (-signal.SIGPROF, -signal.SIGALRM)

Payload = tuple[str | None, ...]


@dataclass(frozen=True)
class Job:
    """A verifier for workers. seconds: processor time per case. workers: how many; None: one per processor."""

    name: str
    seconds: float
    workers: int | None = None


def run(job: Job, payloads: Sequence[Payload]) -> Iterator[tuple[int, Verdict]]:
    """(position, verdict) of each payload, in the order in which workers finish them.

    A case whose worker dies is tried once more, since the worker may have been killed from outside; a time-out is not.
    Raises VerifierError when the verifier cannot be loaded, CohobateError when workers die while they start.
    """
    team = _Team(job, min(job.workers or len(os.sched_getaffinity(0)), len(payloads)))
    todo = deque(range(len(payloads)))
    died: set[int] = set()
    open_cases = len(payloads)
    try:
        while open_cases:
            team.fill(min(open_cases, team.size))
            idle = [worker for worker in team.workers if worker.idle]
            for worker in idle[: len(todo)]:
                worker.give(todo.popleft(), payloads, job.seconds * _WALL + 1)
            for position, verdict in team.wait():
                if (verdict.reason or "").startswith(_DIED) and position not in died:
                    died.add(position)
                    todo.appendleft(position)
                    continue
                open_cases -= 1
                yield position, verdict
    finally:
        team.end()


def try_start(job: Job) -> None:
    """Start a worker and end it again. Raises VerifierError when the verifier cannot be loaded."""
    team = _Team(job, 1)
    try:
        team.fill(1)
        while not team.workers or not team.workers[0].ready:
            team.fill(1)
            team.wait()
    finally:
        team.end()


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    deadline: float
    ready: bool = False
    position: int | None = None
    received: bytearray = field(default_factory=bytearray)

    @property
    def idle(self) -> bool:
        return self.ready and self.position is None

    @property
    def replies(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def give(self, position: int, payloads: Sequence[Payload], seconds: float) -> None:
        """Send a case; a dead worker is noticed when its replies are read."""
        self.position, self.deadline = position, time.monotonic() + seconds
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(payloads[position]).encode() + b"\n")
            self.process.stdin.flush()

    def end(self, at_once: bool = True) -> int:
        """Kill and reap; the exit status, negative for a signal. at_once: without a second to end by itself."""
        if not at_once:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1)
        self.process.kill()
        self.replies.close()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait()


class _Team:
    def __init__(self, job: Job, size: int) -> None:
        self.job, self.size = job, size
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.bad_starts = 0

    def fill(self, count: int) -> None:
        """Start workers until there are `count`."""
        while len(self.workers) < count:
            worker = _Worker(_start(self.job), time.monotonic() + _START_SECONDS)
            self.workers.append(worker)
            self.selector.register(worker.replies, selectors.EVENT_READ, worker)

    def wait(self) -> list[tuple[int, Verdict]]:
        """Wait until a worker replies, dies or is late; the verdicts that follow from it."""
        now = time.monotonic()
        waiting = [worker.deadline for worker in self.workers if not worker.idle]
        verdicts = []
        for key, _ in self.selector.select(max(0.0, min(waiting, default=now) - now)):
            verdicts += self._read(key.data)
        now = time.monotonic()
        for worker in [w for w in self.workers if not w.idle and w.deadline <= now]:
            verdicts += self._lost(worker, late=True)
        return verdicts

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers.clear()
        self.selector.close()

    def _read(self, worker: _Worker) -> list[tuple[int, Verdict]]:
        block = os.read(worker.replies.fileno(), 1 << 16)
        if not block:
            return self._lost(worker)
        worker.received += block
        line, end, rest = bytes(worker.received).partition(b"\n")
        if not end:
            return []
        worker.received[:] = rest
        first, second = json.loads(line)
        if worker.ready:
            position, worker.position = worker.position, None
            assert position is not None
            return [(position, Verdict(first, second))]
        if first == "refused":
            raise VerifierError(f"triples.verifier: {second}")
        worker.ready, self.bad_starts = True, 0
        return []

    def _lost(self, worker: _Worker, late: bool = False) -> list[tuple[int, Verdict]]:
        """Remove a worker that died or is late; `fill` starts another one."""
        self.selector.unregister(worker.replies)
        self.workers.remove(worker)
        status = worker.end(at_once=late)
        if worker.idle:
            return []
        if worker.position is not None:
            timed_out = late or status in _TIMERS
            return [(worker.position, _TIME_OUT if timed_out else Verdict("undecided", f"{_DIED} ({_named(status)})"))]
        self.bad_starts += 1
        if self.bad_starts >= _STARTS:
            raise CohobateError(
                f"the workers of the verifier {self.job.name} die while they start ({_named(status)}); look at the "
                "lines above, and at the memory of the machine"
            )
        return []


def _named(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _start(job: Job) -> subprocess.Popen[bytes]:
    """A worker, which imports modules from where this process does, and from the working directory."""
    environment: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(part).absolute()) for part in sys.path if part]),
        "OMP_NUM_THREADS": "1",
    }
    limits = [str(job.seconds), str(job.seconds * _WALL)]
    return subprocess.Popen(
        [sys.executable, "-m", "cohobate.evaluation.verifiers.worker", job.name, *limits],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
