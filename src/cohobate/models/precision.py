"""Device and precision: the one place that decides where a model runs and in float32 or bfloat16.

Weights that train are float32. On a GPU frozen weights are bfloat16, and so are the products of the weights that train.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from cohobate.core.memory import free_memory

if TYPE_CHECKING:
    import torch


def resolve_device(device: str) -> str:
    """The device named `device`; `auto` is cuda where there is one, else cpu."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def gpu_memory() -> int:
    """Bytes of the memory of the first GPU."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def device_memory(device: str) -> int:
    """Bytes: all of the first GPU's, or for a CPU what this process may still take; device: `resolve_device`'s."""
    return gpu_memory() if device == "cuda" else free_memory()


def weight_dtype(device: str, *, train: bool) -> torch.dtype:
    """The dtype in which weights are loaded: float32 to train, or on a CPU; else bfloat16."""
    import torch

    return torch.bfloat16 if device == "cuda" and not train else torch.float32


def engine_dtype(setting: str, *, cpu: bool) -> str:
    """The dtype of a vLLM engine; `auto` is float32 on a CPU, else bfloat16."""
    if setting == "auto":
        return "float32" if cpu else "bfloat16"
    return setting


def half_products(precision: str, device: torch.device) -> bool:
    """Whether matrix products of training run in bfloat16; `auto` is yes on a GPU only."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def products(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of rollouts and updates: bfloat16 products of float32 weights, or plain float32."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if half_products(precision, device) else nullcontext()
