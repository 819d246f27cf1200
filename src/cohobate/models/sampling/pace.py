"""How a sampler takes its token steps: how often it looks at what has ended, and in which shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cohobate.core import progress
from cohobate.core.sanitize import first_line

# Products of fewer rows take other paths through the matrix library and differ in the last bits.
FEWEST_ROWS = 8


@dataclass(frozen=True)
class Pace:
    """The pace of a sampler.

    steps: token steps between two looks at what has ended; each look waits for the device. row_unit, column_unit: rows
    and columns of the cache that a step works on are whole multiples of these, so that there are few shapes. graphs:
    whether the step of a shape is recorded as a CUDA graph and replayed.
    """

    steps: int = 1
    row_unit: int = 1
    column_unit: int = 16
    graphs: bool = False

    @classmethod
    def of(cls, device: torch.device, *, plain: bool) -> Pace:
        """The pace of a device. plain: whether a step makes no decision by what is in a tensor."""
        # On a CPU a look costs nothing, and a row more costs what a row costs.
        if device.type != "cuda" or not plain:
            return cls()
        return cls(steps=8, row_unit=32, column_unit=128, graphs=True)

    def rows(self, live: int) -> int:
        """The rows of a step with `live` live ones."""
        return max(FEWEST_ROWS, _up(live, self.row_unit))

    def window(self, columns: int) -> int:
        """The columns of a step that needs `columns`."""
        return _up(columns, self.column_unit)


class Graphs:
    """Steps of a few shapes as CUDA graphs: one launch in place of a thousand.

    The first step of a shape is taken as it is, which prepares the libraries; the second is recorded.
    """

    def __init__(self) -> None:
        self._recorded: dict[tuple[int, int], Any] = {}
        self._seen: set[tuple[int, int]] = set()
        self._refused = False

    def run(self, shape: tuple[int, int], step: Callable[[], None]) -> None:
        """Take `step`, which does the same for every call with this shape."""
        if shape not in self._recorded and shape in self._seen and not self._refused:
            self._record(shape, step)
        self._seen.add(shape)
        if shape in self._recorded:
            self._recorded[shape].replay()
        else:
            step()

    def _record(self, shape: tuple[int, int], step: Callable[[], None]) -> None:
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._recorded.values())).pool() if self._recorded else None
        stream = torch.cuda.current_stream()
        try:
            # Another thread may train meanwhile, which must not be held to what a recording allows.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                step()
        except torch.OutOfMemoryError:
            torch.cuda.set_stream(stream)
            raise
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a recording that fails does not go back to it
            self._refused = True
            why = first_line(error)
            progress.say(f"sampling launches each operation by itself, since its step cannot be recorded: {why}")
            return
        self._recorded[shape] = graph


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
