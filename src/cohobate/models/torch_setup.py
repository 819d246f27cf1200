"""The threads and the memory of torch on this machine."""

from __future__ import annotations

import ctypes
import os

from cohobate.config import Runtime

# Of mallopt, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def threads(runtime: Runtime) -> int:
    """The threads that `runtime` names; else of OMP_NUM_THREADS; else as many as the process may use."""
    usual = os.environ.get("OMP_NUM_THREADS", "")
    default = int(usual) if usual.isdecimal() and int(usual) else len(os.sched_getaffinity(0))
    return runtime.threads or default


def prepare_torch(runtime: Runtime) -> None:
    """Set the number of torch's threads, and let it reuse its memory."""
    import torch

    torch.set_num_threads(threads(runtime))
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let malloc keep blocks of up to 32 MB when they are freed, and up to 1 GB in all.

    A step frees and takes the same blocks again and again. Returned to the kernel, each of their pages would be faulted
    in and zeroed again, which takes a tenth of a step on a CPU. Does nothing where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 25)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
