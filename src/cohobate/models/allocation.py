"""The memory that a piece of work takes, measured while it runs on tensors without memory.

The work is the code that trains and samples: torch's fake tensors have shapes, types and lifetimes, but no elements. So
the peak is that of the allocator, up to what it rounds and to the workspaces of its kernels, for models of any size.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, ValuesView
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_GROUPED = torch.ops.aten._grouped_mm.default


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is active: those that live, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A view of a tensor from before is no allocation.
        for tensor in _tensors((args, (kwargs or {}).values())):
            self._known.add(tensor.untyped_storage())
        call = _grouped if func is _GROUPED and isinstance(args[0], FakeTensor) else func
        result = call(*args, **(kwargs or {}))
        for tensor in _tensors((result,)):
            self._add(tensor)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage)
        weakref.finalize(storage, self._remove, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _remove(self, size: int) -> None:
        self.live -= size


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among the arguments or results of an operation, and in its lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple | ValuesView):
            yield from _tensors(value)


def _grouped(a: torch.Tensor, b: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
    """The shape of a grouped product: torch's own rule for fake tensors knows bfloat16 alone."""
    result: torch.Tensor = _GROUPED(a.bfloat16(), b.bfloat16(), *rest, **named)
    return result.to(a.dtype)


@contextmanager
def without_memory() -> Iterator[Allocations]:
    """Tensors that are made here have no elements; what they would take is counted."""
    with FakeTensorMode(allow_non_fake_inputs=True), Allocations() as allocations:
        yield allocations


def allocate(model: torch.nn.Module) -> None:
    """Give the weights and buffers of a model on the meta device a place on the CPU, inside of `without_memory`."""
    places: dict[int, torch.Tensor] = {}

    def place(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in places:
            places[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        return places[id(tensor)]

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                value = torch.nn.Parameter(place(parameter), parameter.requires_grad)
                module._parameters[name] = places.setdefault(-id(parameter), value)  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = place(buffer)
