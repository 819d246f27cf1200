"""Several processes train one student: data parallel, or with its weights and optimizer sharded over them (FSDP2).

The stage's own process is rank 0: it alone writes artifacts, snapshots, the rollout log and progress. It starts the
others, which run the same stage on the same artifacts and print nothing. Each rank rolls out, scores and learns its
share of a step's rows. Sums over tokens are added up over the ranks, so the split changes a gradient only by the order
of its sums.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from cohobate.config import Recipe
from cohobate.core import launch
from cohobate.core.atomic_files import write_json_atomic
from cohobate.core.errors import CohobateError
from cohobate.core.sanitize import first_line
from cohobate.models.precision import resolve_device
from cohobate.models.token_loss import Terms, merge
from cohobate.store.artifacts import Artifact, Workspace
from cohobate.training import launched

T = TypeVar("T")
_RANK, _PORT, _SIZE = "COHOBATE_RANK", "COHOBATE_RANK_PORT", "COHOBATE_RANKS"
_PARENT = "COHOBATE_RANK_PARENT"


@dataclass(frozen=True)
class World:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> list[T]:
        """The part of `rows` that is this rank's."""
        return list(rows[self.rank :: self.size])

    def join(self, share: Sequence[T]) -> list[T]:
        """The rows of all ranks in the order before `share`, from each rank's share."""
        if self.size == 1:
            return list(share)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(share))
        count = sum(map(len, parts))
        return [parts[i % self.size][i // self.size] for i in range(count)]

    def total(self, value: int) -> int:
        """The sum over the ranks."""
        return sum(self._each(value))

    def largest(self, value: int) -> int:
        """The maximum over the ranks."""
        return max(self._each(value))

    def merge(self, terms: Terms) -> Terms:
        """Sums (and, for names in `_max`, maxima) over the ranks; ranks without a row have no terms."""
        if self.size == 1:
            return terms
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, {name: value.cpu() for name, value in terms.items()})
        none: Terms = {}
        return reduce(merge, (part for part in parts if part), none)

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the ranks, in one message."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        parts = flat.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        """Block until all ranks are here."""
        if self.size > 1:
            dist.barrier()

    def _each(self, value: int) -> list[int]:
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = World()


@contextmanager
def together(
    recipe: Recipe, artifacts: Sequence[Artifact], workspace: Workspace, stage: str, module: str
) -> Iterator[World]:
    """The world of the processes that build `stage`: those of torchrun, or `recipe.runtime.processes`.

    The first of the latter starts the others.

    module: the program of the others, `python -m MODULE JOB`. Raises CohobateError with the last line of the log of a
    process that ends with an error.
    """
    if launch.size() > 1:
        with launched.at_work(stage, _job(recipe, artifacts, workspace, stage)):
            yield World(launch.rank(), launch.size())
        return
    size, device = recipe.runtime.processes, resolve_device(recipe.runtime.device)
    if size == 1:
        yield ALONE
        return
    if _RANK in os.environ:
        rank = int(os.environ[_RANK])
        _ready(workspace.scratch, rank).touch()
        with _joined(rank, int(os.environ[_SIZE]), int(os.environ[_PORT]), device) as world:
            yield world
        return
    port, job = _free_port(), workspace.scratch / "job.json"
    write_json_atomic(job, _job(recipe, artifacts, workspace, stage))
    others = [_start(module, rank, size, port, job) for rank in range(1, size)]
    try:
        _await(others, workspace.scratch, stage)
        with _joined(0, size, port, device) as world:
            yield world
    except RuntimeError as error:
        raise CohobateError(_last_words(others, job.parent, stage) or first_line(error)) from error
    finally:
        _stop(others)


def _backend(device: str, size: int) -> str:
    """The library of the messages: NCCL takes one process a GPU, gloo any number anywhere."""
    return "nccl" if device == "cuda" and size <= torch.cuda.device_count() else "gloo"


@contextmanager
def _joined(rank: int, size: int, port: int, device: str) -> Iterator[World]:
    backend = _backend(device, size)
    if device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size)
    try:
        yield World(rank, size)
    finally:
        dist.destroy_process_group()


def _job(recipe: Recipe, artifacts: Sequence[Artifact], workspace: Workspace, stage: str) -> dict[str, Any]:
    parts = [{"id": a.id, "stage": a.stage, "path": str(a.path), "fingerprint": a.fingerprint} for a in artifacts]
    return {
        "stage": stage,
        "recipe": recipe.model_dump(mode="json"),
        "artifacts": parts,
        "workspace": {"path": str(workspace.path), "fingerprint": workspace.fingerprint},
    }


def _ready(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.ready"


def _await(others: Sequence[subprocess.Popen[bytes]], folder: Path, stage: str) -> None:
    """Block until all are about to join: torch would wait for a dead process as for a slow one."""
    for rank, process in enumerate(others, start=1):
        while not _ready(folder, rank).exists():
            if process.poll() is not None:
                raise CohobateError(_last_words(others, folder, stage))
            time.sleep(0.05)


def _start(module: str, rank: int, size: int, port: int, job: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, _RANK: str(rank), _SIZE: str(size), _PORT: str(port), _PARENT: str(os.getpid())}
    _ready(job.parent, rank).unlink(missing_ok=True)
    with (job.parent / f"rank-{rank}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", module, str(job)], env=environment, stdout=log, stderr=log)


def _stop(others: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 5  # for all together: they end by themselves when the first has ended
    for process in others:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(others: Sequence[subprocess.Popen[bytes]], folder: Path, stage: str) -> str | None:
    time.sleep(0.5)  # for the process that failed to end
    for rank, process in enumerate(others, start=1):
        if process.poll():
            lines = (folder / f"rank-{rank}.log").read_text(errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it said nothing"
            return f"{stage}: process {rank} of {len(others) + 1} ended with status {process.returncode}: {last}"
    return None


def die_with_parent() -> None:
    """End this process when its starter has ended: nothing else would stop it after a SIGKILL of the run."""
    parent = int(os.environ[_PARENT])  # getppid() names another where it ended while this process was starting

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
