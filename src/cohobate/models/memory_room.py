"""Work whose size is halved where the device runs out of memory, instead of ending the stage."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from cohobate.core import progress
from cohobate.core.errors import ModelError

T = TypeVar("T")


class Room:
    """How much is worked on at a time: `size` at first, of `unit`, and less once memory has run out.

    what: the work, as it is called in a message.
    """

    def __init__(self, size: int, unit: str, what: str) -> None:
        self.size, self.unit, self.what = size, unit, what

    def use(self, work: Callable[[int], T], least: int = 1) -> T:
        """The result of `work`, called with a size; after memory ran out it is called anew, with half of that.

        Raises ModelError where memory runs out at a size of `least` or below.
        """
        while True:
            try:
                return work(self.size)
            except torch.OutOfMemoryError as error:
                if self.size <= least:
                    raise ModelError(
                        f"{self.what}: the memory of the device is not enough for {self.size} {self.unit} at a time; "
                        "ask for shorter responses, or take a smaller model or a larger device"
                    ) from error
            # Not within `except`, where the traceback keeps the tensors of the work alive.
            give_back()
            before, self.size = self.size, max(least, self.size // 2)
            progress.say(f"{self.what}: memory ran out at {before} {self.unit} at a time; going on with {self.size}")


def give_back() -> None:
    """Give the memory of tensors that are gone back to the GPU, where there is one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
