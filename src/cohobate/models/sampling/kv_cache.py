"""A key-value cache of slots: each row has its own length, and enters and leaves alone.

Token t of a row lies in column t of its slot, whatever the other rows do. Live rows fill the first slots, so that a
decoding step reads two views of memory that was allocated beforehand. Columns past a row's end hold finite numbers,
which the attention mask excludes. Memory grows in blocks, and little more is allocated than is read: attention over
slots with unused room between them takes twice as long on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

# Columns that are allocated at a time, and that attention reads at a time.
_BLOCK = 16


def blocks(columns: int) -> int:
    """`columns` rounded up to whole blocks."""
    return -(-columns // _BLOCK) * _BLOCK


@dataclass(frozen=True)
class Prefill:
    """The next pass reads prompts: the input's row source[i] goes into the first columns of slot `first` + i."""

    first: int
    source: torch.Tensor


@dataclass(frozen=True)
class Decode:
    """The next pass reads one token per row; row i of the input is slot i.

    It goes into column columns[i], and the first `window` columns are attended to.
    """

    columns: torch.Tensor
    window: int
    _places: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def places(self, heads: int, capacity: int) -> torch.Tensor:
        """The places of the tokens in memory of [slots, heads, capacity]; computed once for all layers of a shape."""
        if (heads, capacity) not in self._places:
            starts = torch.arange(len(self.columns) * heads, device=self.columns.device) * capacity
            self._places[heads, capacity] = starts + self.columns.repeat_interleave(heads)
        return self._places[heads, capacity]


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, each [slots, heads, capacity, head_dim]."""

    is_sliding = False

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._allocate(key_states)
        self.values = self._allocate(value_states)
        self.is_initialized = True

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros, not empty memory: a masked column has weight 0, but 0 times NaN is NaN.
        return like.new_zeros(self.owner.slots, like.shape[1], self.owner.capacity, like.shape[3])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        plan = self.owner.plan
        if isinstance(plan, Prefill):
            for room, states in ((self.keys, key_states), (self.values, value_states)):
                slots = room[plan.first : plan.first + len(plan.source)]
                # As many rows as slots: each row of the input goes to the slot of its number.
                rows = states if len(states) == len(slots) else states[plan.source]
                slots[:, :, : states.shape[2]] = rows
            return key_states, value_states
        return _append(self.keys, key_states, plan), _append(self.values, value_states, plan)

    def resize(self) -> None:
        """Allocate as many slots and columns as the owner now has, and copy what fits."""
        if self.is_initialized:
            for name in ("keys", "values"):
                old = getattr(self, name)
                new = self._allocate(old)
                new[:, :, : old.shape[2]] = old[: self.owner.slots]
                setattr(self, name, new)

    def move(self, target: torch.Tensor, source: torch.Tensor, window: int) -> None:
        """Copy the first `window` columns of slots `source` to slots `target`."""
        if self.is_initialized:
            self.keys[target, :, :window] = self.keys[source, :, :window]
            self.values[target, :, :window] = self.values[source, :, :window]

    def get_seq_length(self) -> int:
        """0 while prompts are read, else the columns before the last that is attended to."""
        return self.owner.plan.window - 1 if isinstance(self.owner.plan, Decode) else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self.owner.limit


class SlotCache(Cache):  # type: ignore[misc]
    """`slots` rows of at most `limit` tokens each."""

    def __init__(self, layers: int, slots: int, limit: int) -> None:
        self.slots, self.limit, self.capacity = slots, limit, 0
        # The use of the cache in the next forward pass, for all layers.
        self.plan: Prefill | Decode
        super().__init__(layers=[_SlotLayer(self) for _ in range(layers)])

    def reserve(self, columns: int, slots: int) -> None:
        """Make sure that rows of this many tokens fit, with up to an eighth to spare once they are long.

        If more memory must be allocated for that, it is for the first `slots` slots only.
        """
        if columns > self.capacity:
            unit = max(_BLOCK, 1 << max(0, columns.bit_length() - 4))
            self.capacity, self.slots = min(self.limit, -(-columns // unit) * unit), slots
            for layer in self.layers:
                layer.resize()

    def move(self, target: torch.Tensor, source: torch.Tensor, window: int) -> None:
        """Copy the rows in slots `source` to slots `target`."""
        for layer in self.layers:
            layer.move(target, source, window)


def _append(room: torch.Tensor, states: torch.Tensor, plan: Decode) -> torch.Tensor:
    """Write one token per row, and return the columns to attend to, [rows, heads, window, head_dim]."""
    rows, heads = states.shape[:2]
    places = plan.places(heads, room.shape[2])
    room.flatten(0, 2).index_copy_(0, places, states.reshape(rows * heads, -1).to(room.dtype))
    return room[:rows, :, : plan.window]
