"""An engine of vLLM in a process beside this one: lines of JSON go in and come out (see vllm_worker.py)."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cohobate.core.errors import EngineError
from cohobate.core.processes import Group
from cohobate.core.progress import say
from cohobate.teachers.vllm import install as vllm

_WORKER = Path(__file__).with_name("worker.py")
_NEWS_SECONDS = 20.0


class VllmProcess:
    """The process of an engine with `arguments`, once it is ready. Raises EngineError when it does not start."""

    def __init__(
        self,
        install: vllm.Install,
        threads: int,
        arguments: dict[str, Any],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        command = [str(install.python), "-u", str(_WORKER)]
        variables = {**install.environment(threads), **(environment or {})}
        self.group = Group(command, env=variables, log=log, piped=True)
        assert self.group.process.stdin and self.group.process.stdout
        self._in, self._out = self.group.process.stdin, self.group.process.stdout
        self._begun, self.ended = b"", False
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            self.send(given)
            self._wait_until_ready()
        except BaseException:
            self.group.kill()
            raise

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._in.write(json.dumps(message).encode() + b"\n")
            self._in.flush()
        except BrokenPipeError:
            pass  # it has ended, as `receive` will say

    def receive(self, seconds: float | None = None) -> list[dict[str, Any]]:
        """What has come, at least one message unless `seconds` pass or the engine has ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        lines: list[bytes] = []
        while not lines and not self.ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._out], [], [], left)[0]:
                break
            chunk = os.read(self._out.fileno(), 1 << 20)
            self.ended = not chunk
            *lines, self._begun = (self._begun + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def rest(self) -> Iterator[dict[str, Any]]:
        """What a killed engine has left in the pipe."""
        while not self.ended:
            yield from self.receive()
        self._out.close()

    def why(self, said: str = "") -> str:
        """Why the engine ended, for a person; `said` is what it said itself."""
        code = self.group.process.wait() if self.ended and not said else 0
        killed = f"killed by signal {-code}, as for lack of memory" if code < 0 else ""
        return f"{killed or vllm.cause(said, self.log)} (log: {self.log})"

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        while True:
            messages = self.receive(_NEWS_SECONDS)
            waited = time.monotonic() - began
            if messages and "ready" in messages[0]:
                say(f"vLLM is ready after {waited:.0f} s")
                return
            if messages or self.ended:
                raise EngineError(vllm.DOES_NOT_START.format(self.why(messages[0]["fatal"] if messages else "")))
            say(vllm.still_starting(waited, self.log))
