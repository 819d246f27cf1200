"""The memory that this process may still take."""

from __future__ import annotations

import os
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
