"""The way to sample a model, found out by trials against the model's own forward pass.

A list of families would be wrong for the next one. What a trial of a few tokens cannot show is asked of the config:
kinds of layers that are neither full nor sliding attention, and attention that makes its masks itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from cohobate.core import progress
from cohobate.core.errors import ModelError
from cohobate.core.model_shape import ModelShape, context_of, read, text_config
from cohobate.models.decoder.decoder import Decoder
from cohobate.models.sampling.decoding import Decoding, Sampled
from cohobate.models.sampling.own_generation import generate
from cohobate.models.sampling.slot_sampler import KINDS, SlotSampler

# slots: this program's cache. cache: transformers' own. passes: a pass over the whole row for each token.
Way = Literal["slots", "cache", "passes"]
WORDS: dict[Way, str] = {
    "slots": "",
    "cache": "sampled with transformers' own cache, which is slower",
    "passes": "sampled without a cache, a pass over the whole row for each token, which is slow",
}
# In nats: of one token in float32, and of the mean over tokens in half precision.
_APART, _HALF_APART = 1e-4, 0.1
_LENGTHS, _DRAWN = (3, 9, 9, 5), 6
_ERRORS = (
    *(RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError),
    *(NotImplementedError, ModelError),
)
_tried: WeakKeyDictionary[Any, Way] = WeakKeyDictionary()

_Draw = Callable[[list[list[int]]], list[Sampled]]


@torch.inference_mode()
def way_to_sample(model: Any) -> Way:
    """The fastest way whose log-probabilities are those of the model's own forward pass; tried once per model."""
    if Decoder.supports(model):
        return "slots"
    if model not in _tried:
        _tried[model] = _try(model)
        if _tried[model] != "slots":
            progress.say(f"{type(model).__name__} is {WORDS[_tried[model]]}: this program's own cache does not hold it")
    return _tried[model]


def _try(model: Any) -> Way:
    greedy = Decoding(_DRAWN, 0.0)

    def by_slots(prompts: list[list[int]]) -> list[Sampled]:
        return SlotSampler(model, prompts, greedy, None, (), 0, len(prompts)).run(lambda rows: None)

    def by_cache(prompts: list[list[int]]) -> list[Sampled]:
        return generate(model, prompts, greedy, None, (), 0, len(prompts), lambda rows: None, cached=True)

    if _has_plain_attention(model) and _agrees(model, by_slots):
        return "slots"
    return "cache" if _agrees(model, by_cache) else "passes"


def _has_plain_attention(model: Any) -> bool:
    """Whether all layers attend fully or in a window, by masks that they are given."""
    text = text_config(model.config)
    kinds = set(read(text, "layer_types") or []) | set(read(text, "layers_block_type") or [])
    if isinstance(read(text, "sliding_window"), list):  # a mask for each layer, where there is one for each kind
        return False
    return bool(getattr(model, "_supports_attention_backend", False)) and kinds <= KINDS


def _agrees(model: Any, draw: _Draw) -> bool:
    was_training = model.training
    model.eval()
    try:
        prompts = _prompts(model)
        apart = torch.cat([_apart(model, *each) for each in zip(prompts, draw(prompts), strict=True)])
    except torch.OutOfMemoryError:
        raise
    except _ERRORS:
        return False
    finally:
        model.train(was_training)
    if model.dtype == torch.float32 and not torch.is_autocast_enabled(model.device.type):
        return bool(apart.max() <= _APART)
    return bool(apart.mean() <= _HALF_APART)


def _prompts(model: Any) -> list[list[int]]:
    """Prompts of unlike lengths, two of them equal; the ids are drawn, for a text may be one token repeated."""
    room = (context_of(model.config) or max(_LENGTHS) + _DRAWN) - _DRAWN
    noise, size = torch.Generator().manual_seed(0), ModelShape.of(model.config).vocabulary
    rows = [torch.randint(size, (max(1, min(n, room)),), generator=noise).tolist() for n in _LENGTHS]
    return [rows[0], rows[1], rows[1], rows[3]]


def _apart(model: Any, prompt: list[int], row: Sampled) -> torch.Tensor:
    """Distances of the log-probabilities of a response from those of the model's own pass over it, [R]."""
    ids = torch.tensor([[*prompt, *row.response_ids]], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    own = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
    apart: torch.Tensor = (own - torch.tensor(row.logprobs, device=own.device)).abs()
    return apart
