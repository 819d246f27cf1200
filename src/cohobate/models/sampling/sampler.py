"""Rollouts: sample responses from a causal language model in this process, with exact log-probabilities.

Where this program's cache of slots holds the model, rows are batched continuously; else transformers' own generation
samples it, which is slower.

The noise of a response comes from a stream of its own, named by a key. The tensors of a row have the same shape
whatever else is in the batch: the row's own padded prompt, columns of its own in the cache (those of longer rows have
weight 0), and never fewer than eight rows in a matrix product. So the same (seed, key, prompt) draws the same
tokens. Their log-probabilities are the same to the last bit where the matrix library computes a row of a product
identically for any number of rows (MKL on one thread does from 4 rows on), else up to the last bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from cohobate.models.memory_room import Room
from cohobate.models.sampling.decoding import Decoding, FinishReason, Sampled
from cohobate.models.sampling.own_generation import generate
from cohobate.models.sampling.slot_sampler import SlotSampler
from cohobate.models.sampling.way import WORDS, way_to_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Decoding", "FinishReason", "Sampled", "sample", "uniforms", "way_in_words"]


def uniforms(seed: int, keys: Sequence[str], length: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) of shape [len(keys), length]; row i depends only on (seed, keys[i])."""
    return np.stack([_stream(seed, key).random(length) for key in keys])


def _stream(seed: int, key: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def way_in_words(model: Any) -> str:
    """How `model` is sampled, to be said of it; empty for the usual way."""
    return WORDS[way_to_sample(model)]


def _on_device_of(model: Any) -> AbstractContextManager[Any]:
    """A thread begins on the first GPU, whichever the model is on, and graphs are recorded on that of the thread."""
    return torch.cuda.device(model.device) if model.device.type == "cuda" else nullcontext()


# How many rows of a model there is memory for at a time, where it ran out.
most_rows: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


@torch.inference_mode()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    noise: NDArray[np.float64] | None,
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda rows: None,
) -> list[Sampled]:
    """One response per prompt, in the order of `prompts`, each of at least one token.

    `noise` is [len(prompts), >= max_tokens] from `uniforms`; it may be None when decoding is greedy. At most
    `batch_size` rows are generated at a time. `done` is called with the number of rows that ended together.

    Raises ValueError where noise is needed and missing, ModelError for a model that cannot be sampled in this process.
    """
    if decoding.temperature > 0 and noise is None:
        raise ValueError("sampling at a temperature needs noise: pass sampler.uniforms(...)")
    if not prompts:
        return []
    was_training, reported = model.training, 0
    at_first = min(batch_size, len(prompts), most_rows.get(model, batch_size))
    room = Room(at_first, "rows", "sampling")

    def attempt(size: int) -> list[Sampled]:
        ended = 0

        def tell(rows: int) -> None:
            nonlocal reported, ended
            ended += rows
            done(max(0, ended - reported))  # those of an attempt that ran out of memory were reported
            reported = max(reported, ended)

        if way == "slots":
            return SlotSampler(model, prompts, decoding, noise, eos_ids, pad_id, size).run(tell)
        return generate(model, prompts, decoding, noise, eos_ids, pad_id, size, tell, cached=way == "cache")

    model.eval()
    try:
        with _on_device_of(model):
            way = way_to_sample(model)
            return room.use(attempt)
    finally:
        if room.size < at_first:
            most_rows[model] = room.size
        model.train(was_training)
