"""An engine of vLLM in a process beside this one: lines of JSON go in and come out (see worker.py)."""

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
from cohobate.teachers.vllm import install

_WORKER = Path(__file__).with_name("worker.py")
_STATUS_SECONDS = 20.0


class VllmProcess:
    """The process of an engine with `arguments`, once it is ready. Raises EngineError when it does not start.

    section: that of the recipe which has its settings. max_length: most tokens of prompt and response together.
    """

    def __init__(
        self,
        vllm: install.Install,
        threads: int,
        arguments: dict[str, Any],
        log: Path,
        section: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log, self.section, self.max_length = log, section, 0
        command = [str(vllm.python), "-u", str(_WORKER)]
        variables = {**vllm.environment(threads), **(environment or {})}
        self.group = Group(command, env=variables, log=log, piped=True)
        assert self.group.process.stdin and self.group.process.stdout
        self._in, self._out = self.group.process.stdin, self.group.process.stdout
        self._partial_line, self.ended = b"", False
        try:
            self.send({name: value for name, value in arguments.items() if value is not None})
            self._wait_until_ready()
        except BaseException:
            self.group.kill()
            raise

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._in.write(json.dumps(message).encode() + b"\n")
            self._in.flush()
        except BrokenPipeError:
            pass  # the engine has ended, as `receive` will show

    def receive(self, seconds: float | None = None) -> list[dict[str, Any]]:
        """The messages that have come, at least one unless `seconds` pass or the engine has ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        lines: list[bytes] = []
        while not lines and not self.ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._out], [], [], left)[0]:
                break
            chunk = os.read(self._out.fileno(), 1 << 20)
            self.ended = not chunk
            *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def remaining(self) -> Iterator[dict[str, Any]]:
        """The messages that a killed engine has left in the pipe."""
        while not self.ended:
            yield from self.receive()
        self._out.close()

    def end_reason(self, message: str = "") -> str:
        """The reason why the engine ended, for the user; `message` is the engine's own, if it sent one."""
        code = self.group.process.wait() if self.ended and not message else 0
        signal = f"killed by signal {-code}, as for lack of memory" if code < 0 else ""
        return f"{signal or install.cause(message, self.log)} (log: {self.log})"

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        while True:
            messages = self.receive(_STATUS_SECONDS)
            waited = time.monotonic() - began
            if messages and "ready" in messages[0]:
                self.max_length = int(messages[0]["max_length"])
                say(f"vLLM is ready after {waited:.0f} s")
                return
            if messages or self.ended:
                reason = self.end_reason(messages[0]["fatal"] if messages else "")
                raise EngineError(install.DOES_NOT_START.format(reason, self.section))
            say(install.startup_status(waited, self.log))
