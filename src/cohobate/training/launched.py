"""The processes that torchrun started, on one machine or several that share the data folder.

The first runs the flow. The others wait for the training stages that it comes to, and build them with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from cohobate.core import launch
from cohobate.core.errors import CohobateError
from cohobate.core.sanitize import first_line

_LIBRARIES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
# The first may ask a teacher for days before it trains.
_PATIENCE = timedelta(days=30)


def join() -> None:
    """Meet the other processes, once; address and numbers are those of torchrun's environment."""
    if dist.is_initialized():
        return
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(launch.local_rank() % gpus)
    # NCCL takes one process a GPU.
    backend = "cpu:gloo,cuda:nccl" if launch.local_size() <= gpus else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)


@contextmanager
def at_work(stage: str, job: dict[str, Any]) -> Iterator[None]:
    """All processes build `stage` together in this block; the first tells the others the `job`.

    Raises CohobateError where one of the others has ended.
    """
    join()
    if launch.rank() == 0:
        _tell(job)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(name in str(error) for name in _LIBRARIES):
            raise
        why = first_line(error)
        raise CohobateError(f"{stage}: a process that trains with this one does not answer any more: {why}") from error


def next_job() -> dict[str, Any] | None:
    """What the first process trains next, as soon as it comes to it; None when its flow has ended."""
    join()
    jobs: list[Any] = [None]
    dist.broadcast_object_list(jobs, src=0)
    job: dict[str, Any] | None = jobs[0]
    if job is None:
        _part()
    return job


def release() -> None:
    """Let the other processes end; the first calls it when its flow has ended."""
    join()
    _tell(None)
    _part()


def _part() -> None:
    """End the group: nobody leaves before all know that there is nothing more to do."""
    with suppress(RuntimeError):  # of one that has left already
        dist.barrier()
    dist.destroy_process_group()


def _tell(job: dict[str, Any] | None) -> None:
    dist.broadcast_object_list([job], src=0)
