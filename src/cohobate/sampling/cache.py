"""A key-value cache of slots: each row has its own length, enters and leaves alone, and nothing grows by a token.

Token t of a row lies in column t of its slot, whatever the other rows do. Live rows fill the first slots, so that a
decoding step reads two views of memory that was taken beforehand; columns past a row's end hold finite numbers that
the attention mask shuts out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class Prefill:
    """The next pass reads prompts: the input's row source[i] goes into the first columns of slot slots[i]."""

    slots: torch.Tensor
    source: torch.Tensor


@dataclass(frozen=True)
class Decode:
    """The next pass reads a token a row, row i of the input being slot i.

    It goes to places[i] = i * capacity + its column, and the first `window` columns are attended to.
    """

    places: torch.Tensor
    window: int


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, each [slots, capacity, heads, head_dim]: a row's columns lie in one piece."""

    is_sliding = False

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._room(key_states.transpose(1, 2))
        self.values = self._room(value_states.transpose(1, 2))
        self.is_initialized = True

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros: a masked column weighs nothing, but nothing times what memory may hold (not a number) is not nothing.
        return like.new_zeros(self.owner.slots, self.owner.capacity, *like.shape[2:])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        plan = self.owner.plan
        if isinstance(plan, Prefill):
            for room, states in ((self.keys, key_states), (self.values, value_states)):
                room[plan.slots, : states.shape[2]] = states.transpose(1, 2)[plan.source].to(room.dtype)
            return key_states, value_states
        return _append(self.keys, key_states, plan), _append(self.values, value_states, plan)

    def grow(self) -> None:
        """Take as many columns as the owner's capacity now says."""
        if self.is_initialized and self.keys.shape[1] < self.owner.capacity:
            for name in ("keys", "values"):
                old = getattr(self, name)
                new = self._room(old)
                new[:, : old.shape[1]] = old
                setattr(self, name, new)

    def move(self, target: torch.Tensor, source: torch.Tensor, window: int) -> None:
        """Copy the first `window` columns of slots `source` to slots `target`."""
        if self.is_initialized:
            self.keys[target, :window] = self.keys[source, :window]
            self.values[target, :window] = self.values[source, :window]

    def get_seq_length(self) -> int:
        """0 while prompts are read, else the columns before the last that is attended to."""
        return self.owner.plan.window - 1 if isinstance(self.owner.plan, Decode) else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self.owner.limit


class SlotCache(Cache):  # type: ignore[misc]
    """`slots` rows of at most `limit` tokens each; memory for `capacity` of them is taken at first."""

    def __init__(self, layers: int, slots: int, capacity: int, limit: int) -> None:
        self.slots, self.limit = slots, limit
        self.capacity = min(capacity, limit)
        # What the next forward pass does with the cache; all layers go by it.
        self.plan: Prefill | Decode
        super().__init__(layers=[_SlotLayer(self) for _ in range(layers)])

    def hold(self, window: int) -> None:
        """Make sure that rows of `window` tokens fit, at least doubling what is taken."""
        if window > self.capacity:
            self.capacity = min(self.limit, max(window, 2 * self.capacity))
            for layer in self.layers:
                layer.grow()

    def move(self, target: torch.Tensor, source: torch.Tensor, window: int) -> None:
        """Copy the rows in slots `source` to slots `target`."""
        for layer in self.layers:
            layer.move(target, source, window)


def _append(room: torch.Tensor, states: torch.Tensor, plan: Decode) -> torch.Tensor:
    """Write one token a row, and return the columns to attend to, [rows, heads, window, head_dim]."""
    room.flatten(0, 1).index_copy_(0, plan.places, states[:, :, 0].to(room.dtype))
    return room[: len(states), : plan.window].transpose(1, 2)
