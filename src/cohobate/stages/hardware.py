"""The machine that this is, or that a name means: its speed and memory, for estimates and proposals."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cohobate.core.memory import free_memory
from cohobate.models.precision import gpu_memory, resolve_device
from cohobate.stages.estimate import GIB, GPUS, Machine

HERE = "here"
CPU = "cpu-core"
# Of the peak: what training on GPUs reaches, and the shipped figures of a core are measured ones.
_UTILISATION = 0.35


@dataclass(frozen=True)
class Hardware:
    """A machine by its name in estimate.GPUS. device: of runtime.device. cores: that share the work on a CPU."""

    name: str
    machine: Machine
    device: str
    cores: int = 1

    @property
    def words(self) -> str:
        """For people, such as `h100, 80 GiB`."""
        kind = f"{self.cores} processor cores" if self.device == "cpu" else self.name
        return f"{kind}, {self.machine.memory:.0f} GiB"


def hardware(name: str = HERE) -> Hardware:
    """The machine of a name in estimate.GPUS, or `here`: this one. Raises RecipeError for another name."""
    if name != HERE:
        return Hardware(name, Machine.with_gpu(name, 1.0 if name == CPU else _UTILISATION), _device(name))
    if resolve_device("auto") == "cuda":
        gpu = _nearest(_gpu_name(), gpu_memory() / GIB)
        machine = replace(Machine.with_gpu(gpu, _UTILISATION), memory=gpu_memory() / GIB)
        return Hardware(gpu, machine, "cuda")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    core = Machine.with_gpu(CPU, 1.0)
    machine = replace(
        core, flops=core.flops * cores, bandwidth=core.bandwidth * cores, memory=free_memory() / GIB, half=False
    )
    return Hardware(CPU, machine, "cpu", cores)


def _device(name: str) -> str:
    return "cpu" if name == CPU else "cuda"


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(0))


def _nearest(name: str, memory: float) -> str:
    """The known GPU whose name is part of `name`, or else the one with the nearest memory."""
    plain = name.lower().replace(" ", "-")
    names = [gpu for gpu in GPUS if gpu != CPU]
    return next((gpu for gpu in names if gpu in plain), min(names, key=lambda gpu: abs(GPUS[gpu][2] - memory)))
