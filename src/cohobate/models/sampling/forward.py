"""The local sampler's passes through the model: by `Decoder` where it supports the model, else by its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from cohobate.models.decoder.decoder import Decoder, causal, held_in_products
from cohobate.models.decoder_module import decoder_module
from cohobate.models.last_layer import mlp_only_at
from cohobate.models.output_layer import OutputLayer
from cohobate.models.sampling.kv_cache import SlotCache


class Forward(Protocol):
    """The two passes of a sampler; both follow the plan of the cache."""

    def prefill(self, inputs: torch.Tensor) -> None:
        """Read prompts [B, T] into the cache; right padding needs no mask, since attention is causal."""

    def decode(self, tokens: torch.Tensor, positions: torch.Tensor, mask: Any) -> torch.Tensor:
        """Logits [rows, vocabulary] after one token per row, [rows], at `positions` [rows]."""


def forward_of(model: Any, cache: SlotCache, limit: int) -> Forward:
    """The passes of `model` over at most `limit` positions, valid while its weights do not change."""
    decoder = Decoder.of(model)
    return _ByModule(model, cache) if decoder is None else _ByDecoder(model, decoder, cache, limit)


class _ByModule:
    def __init__(self, model: Any, cache: SlotCache) -> None:
        self.model, self.cache = model, cache

    def prefill(self, inputs: torch.Tensor) -> None:
        decoder, nothing = decoder_module(self.model), inputs.new_zeros(0)
        with mlp_only_at(decoder, nothing, nothing):
            decoder(input_ids=inputs, past_key_values=self.cache, use_cache=True)

    def decode(self, tokens: torch.Tensor, positions: torch.Tensor, mask: Any) -> torch.Tensor:
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=self.cache,
            logits_to_keep=1,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


class _ByDecoder:
    def __init__(self, model: Any, decoder: Decoder, cache: SlotCache, limit: int) -> None:
        self.decoder, self.cache = decoder, cache
        self.output = _output_of(model)
        self.angles = decoder.angles(torch.arange(limit, device=model.device))

    def prefill(self, inputs: torch.Tensor) -> None:
        rows, width = inputs.shape
        among, last = causal(rows), len(self.decoder.layers) - 1

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            new = (states.unflatten(0, (rows, width)).transpose(1, 2) for states in (keys, values))
            self.cache.layers[number].update(*new)
            # The attention output of the last layer is not read.
            return queries.flatten(1) if number == last else among(number, queries, keys, values)

        cos, sin = (table[:width].repeat(rows, 1, 1) for table in self.angles)
        self.decoder.read(inputs.flatten(), (cos, sin), attend, inputs.new_zeros(0))

    def decode(self, tokens: torch.Tensor, positions: torch.Tensor, mask: Any) -> torch.Tensor:
        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            all_keys, all_values = self.cache.layers[number].update(keys[:, :, None], values[:, :, None])
            # The heads of a group stand as queries of their common keys, so that these are not copied for each.
            grouped = queries.unflatten(1, (keys.shape[1], -1))
            if all_keys.dtype != torch.float32:
                # Its logits are float32, as in training; a product would round them to the precision of the keys.
                return scaled_dot_product_attention(grouped, all_keys, all_values, mask.to(all_keys.dtype)).flatten(1)
            # For one query per row, two products are faster on a CPU than the kernel for many.
            scores = torch.matmul(grouped, all_keys.transpose(2, 3)).mul_(scale).add_(mask)
            return torch.matmul(scores.softmax(-1), all_values).flatten(1)

        scale = self.decoder.width**-0.5
        cos, sin = (table[positions] for table in self.angles)
        return self.output(self.decoder.read(tokens, (cos, sin), attend))


def _output_of(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The output layer of `model`, whose weights are cast once."""
    output = OutputLayer(model)
    head = output.linear
    if head is None:
        return output
    weight, bias = held_in_products(head.weight), None if head.bias is None else held_in_products(head.bias)
    return lambda hidden: output.after_linear(linear(hidden, weight, bias))
