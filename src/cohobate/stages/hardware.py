"""The machine that this is, or that a name means: its speed and memory, for estimates and proposals."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cohobate.core.memory import free_memory
from cohobate.models.precision import gpu_memory, resolve_device
from cohobate.stages.estimate import CPU, GIB, GPUS, Machine

HERE = "here"
_MEASURED = 1.0  # utilisation of a core, whose figures in GPUS are no peak


@dataclass(frozen=True)
class Hardware:
    """A machine by its name in estimate.GPUS. cores: that share the work on a CPU."""

    name: str
    machine: Machine
    cores: int = 1

    @property
    def device(self) -> str:
        """As runtime.device: cpu or cuda."""
        return "cpu" if self.name == CPU else "cuda"

    @property
    def words(self) -> str:
        """For people, such as `h100, 80 GiB`."""
        kind = f"{self.cores} processor cores" if self.device == "cpu" else self.name
        return f"{kind}, {self.machine.memory:.0f} GiB"


def hardware(name: str = HERE) -> Hardware:
    """The machine of a name in estimate.GPUS, or `here`: this one. Raises RecipeError for another name."""
    if name == HERE:
        return this_machine()
    return Hardware(name, Machine.with_gpu(name, _MEASURED) if name == CPU else Machine.with_gpu(name))


def this_machine(device: str = "auto") -> Hardware:
    """The first GPU of this machine with all its memory, or its cores with the free memory. device: of the recipe."""
    if resolve_device(device) == "cuda":
        gpu = _nearest(_gpu_name(), gpu_memory() / GIB)
        return Hardware(gpu, replace(Machine.with_gpu(gpu), memory=gpu_memory() / GIB))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    core = Machine.with_gpu(CPU, _MEASURED)
    memory = free_memory() / GIB
    machine = replace(core, flops=core.flops * cores, bandwidth=core.bandwidth * cores, memory=memory)
    return Hardware(CPU, machine, cores)


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(0))


def _nearest(name: str, memory: float) -> str:
    """The known GPU whose name is part of `name`, or else the one with the nearest memory."""
    plain = name.lower().replace(" ", "-")
    names = [gpu for gpu in GPUS if gpu != CPU]
    return next((gpu for gpu in names if gpu in plain), min(names, key=lambda gpu: abs(GPUS[gpu][2] - memory)))
