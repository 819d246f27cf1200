"""Usage of a process tree measured from outside: wall and processor seconds, and peak memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Usage:
    """seconds: wall; cpu: processor seconds of the tree; megabytes: peak resident memory; output: standard output."""

    seconds: float
    cpu: float
    megabytes: float
    output: str = ""


def measure(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    core: int | None = None,
    until: Callable[[], bool] | None = None,
    longest: float = 3600.0,
) -> Usage:
    """Run a command on one core; with `until`, kill it as soon as that is true.

    Raises RuntimeError when it fails, or has not ended after `longest` seconds.
    """
    started, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    peak, killed = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process, peak, until, killed))
    watch.start()
    try:
        out, errors = process.communicate(timeout=longest)
        seconds = time.perf_counter() - started  # the samples of memory are a tenth of a second apart
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError(f"{' '.join(command)} has not ended after {longest:.0f} s") from None
    finally:
        watch.join()
    after = os.times()
    if process.returncode and not killed.is_set():
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors.decode()[-3000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(seconds, cpu, peak[0], out.decode())


def _watch(
    process: subprocess.Popen[bytes], peak: list[float], until: Callable[[], bool] | None, killed: threading.Event
) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_resident, _tree(process.pid))))
        if until is not None and until():
            killed.set()
            os.killpg(process.pid, signal.SIGKILL)
            return
        time.sleep(_SAMPLE_SECONDS if until is None else 0.02)


def _tree(root: int) -> list[int]:
    pids = [root]
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                pids += [int(child) for child in task.read_text().split()]
            except OSError:  # it has ended
                continue
    return pids


def _resident(pid: int) -> float:
    """Peak of the process's resident memory so far, in megabytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def summary(name: str, runs: Sequence[Usage], ours: float, rows: int) -> str:
    """Medians of a contender's runs, and the ratio of its wall time to `ours`."""
    walls = [run.seconds for run in runs]
    median = statistics.median(walls)
    return (
        f"{name:<13} {median:6.2f} s  {median / ours:5.2f} x  {statistics.median(run.cpu for run in runs):5.2f} s CPU  "
        f"{rows / median:6.0f} rows/s  {max(run.megabytes for run in runs):4.0f} MB  "
        f"(of {', '.join(f'{wall:.2f}' for wall in walls)})"
    )
