"""One builder per artifact: an flock, which the kernel releases however its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cohobate.core import progress


@contextmanager
def exclusive(path: Path, artifact_id: str) -> Iterator[None]:
    """Hold the lock file `path` within the block; while another process holds it, name that process and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, artifact_id)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file `path` at the moment."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:  # nobody has ever held it, or nobody may be asked
        return False
    try:
        # Shared: two that ask at the same time do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int, artifact_id: str) -> None:
    announced = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not announced:
                progress.say(f"{artifact_id} is being built by {_holder(descriptor)}; waiting for it to finish")
                announced = True
            time.sleep(0.5)
        else:
            return


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):
        return "another process"
