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

# The shell becomes the command, and its id that of the command and the group. Before that it has started the watcher,
# which reads a pipe that closes only when this process dies, and then ends the group: as the pipe is older than either,
# there is no moment at which a SIGKILL of this process could leave the command behind. The watcher is nobody's child,
# lest the command wait for it; it holds no file of the command; and it is deaf to the signals that ask a group to end.
_START = """
( (
    trap '' HUP INT TERM
    read -r _
    kill -s TERM -- "-$$"
    sleep "$1"
    kill -s KILL -- "-$$"
) <"/dev/fd/$0" >/dev/null 2>&1 & )
shift
exec "$@"
"""


class Group:
    """A command and all that it starts. A context manager: the group is stopped at the end of the block.

    `piped`: its standard input and output are `process.stdin` and `process.stdout`; else it has no input, and its
    output goes to `log` like its errors. Ctrl+C in a terminal does not reach it. However this process ends, the group
    is told to end, and killed `grace` seconds later.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, piped: bool = False, grace: float = 0.0
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        end_of_this_process, self._open = os.pipe()
        try:
            with log.open("wb") as out:
                self.process = subprocess.Popen(
                    ["/bin/sh", "-c", _START, str(end_of_this_process), str(grace), *command],
                    stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if piped else out,
                    stderr=out,
                    env=dict(env),
                    pass_fds=[end_of_this_process],
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._open)
            raise
        finally:
            os.close(end_of_this_process)
        self._stopped = False

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
        if not self._stopped:
            self._stopped = True  # from now on the id can mean another group
            os.close(self._open)
        if self.process.stdin is not None:
            with suppress(OSError):  # bytes that were not yet written
                self.process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if not self._stopped:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
