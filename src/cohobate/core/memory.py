"""The memory that this process may still take, and that it has no use for any more."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes: what the machine has left, or the container where that is less; without Linux, all of the machine's."""
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        bounds.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):  # "max" is no number: no bound
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        bounds.append(max(limit - used, 0))
    return min(bounds)


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, and to the device's other users.

    malloc and torch keep what is freed for the next use. Between stages that is gigabytes, which a server, an engine or
    another run beside this one would lack. Does nothing where malloc is not glibc's.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
