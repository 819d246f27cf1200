"""Processes of the system by their ids, and waiting for what a running one does."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def peak_memory() -> int:
    """The most bytes of memory that this process has had since its program began.

    The maximum that `resource` gives is inherited: it begins with that of the process which started this one.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def children(pid: int) -> list[int]:
    """The processes that any thread of `pid` has started and that have not been waited for; [] once it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"{pids} still run"
        time.sleep(0.01)


def wait_while_running(
    process: "subprocess.Popen[Any]", condition: Callable[..., object], seconds: float = 120
) -> None:
    """Return as soon as `condition` holds; that `process` ends before, or that time runs out, fails the test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended before the awaited moment: {process.communicate()}"
        assert time.monotonic() < deadline, "the awaited moment never came"
        time.sleep(0.005)
