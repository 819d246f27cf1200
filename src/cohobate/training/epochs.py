"""Seeded epochs: the batch of each step, out of all examples in an order that is drawn once per epoch."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def epoch_batch(seed: int, step: int, size: int, count: int) -> list[int]:
    """Indices of the `size` examples of `step`, out of `count`; they depend on the four numbers alone.

    Every epoch has every example once. A batch may end one epoch and begin the next.
    """
    positions = range(step * size, (step + 1) * size)
    return [int(_permutation(seed, at // count, count)[at % count]) for at in positions]


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
