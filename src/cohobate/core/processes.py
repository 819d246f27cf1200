"""Commands that run beside this process and never outlive it: each leads its own process group, which ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class Group:
    """A command and all that it starts. A context manager: the group is stopped at the end of the block.

    `piped`: its standard input and output are `process.stdin` and `process.stdout`; else it has no input, and its
    output goes to `log` like its errors. Ctrl+C in a terminal does not reach it.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], log: Path, piped: bool = False) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out,
                stderr=out,
                env=dict(env),
                start_new_session=True,
            )
        # After SIGKILL this process can stop nothing: a shell waits at a pipe that closes only when this process dies.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", 'read _; kill -s KILL -- "-$0"', str(self.process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended."""
        return self.process.poll() is not None

    def stop(self, seconds: float = 10.0) -> None:
        """Ask the group to end, and kill what is left of it after `seconds`."""
        try:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of the group."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._watch.kill()  # before the process id can mean another group
        self._watch.wait()
        for pipe in (self._watch.stdin, self.process.stdin):
            if pipe is not None:
                with suppress(OSError):  # bytes that were not yet written
                    pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._watch.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
