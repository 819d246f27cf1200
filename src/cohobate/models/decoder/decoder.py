"""The forward pass, with the query, key and value projections in one product, and gate and up in another.

It computes what transformers computes, up to the order of additions. Sharded or hooked modules, adapters that learn,
other architectures and sliding windows go through the module itself: for them `Decoder.of` is None. Without gradients
LoRA adapters are merged into copies of the weights (see `adapted.py`).

Under autocast the products are in its precision, and the residual stream, norms and rotation in that of the weights.
Without gradients the weights of the products are cast once, when the decoder is made, not in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding, linear, scaled_dot_product_attention

from cohobate.models.decoder.adapted import is_mergeable, weight_of
from cohobate.models.decoder.fused import rms_norm, rotate, swiglu

_SUPPORTED = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_ROPES = {"default", "linear", "llama3", "yarn"}  # whose angles depend on the position alone
# Larger products gain nothing from being joined, and their weights would take memory twice.
_JOINED = 1 << 22

# Of the weights and biases of products, to the precision in which they are held.
_Cast = Callable[[torch.Tensor], torch.Tensor]
# Attention of a layer over N tokens, as a function that has their places: (layer, queries [N, heads, head_dim], keys
# and values [N, key-value heads, head_dim]), to [N, heads * head_dim].
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Product:
    """Linear layers of one input, side by side; joined where they are small."""

    weights: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor | None, ...]

    @classmethod
    def of(cls, cast: _Cast, *layers: Any) -> _Product:
        weights = [cast(weight_of(layer)) for layer in layers]
        biases = [None if layer.bias is None else cast(layer.bias) for layer in layers]
        if sum(weight.numel() for weight in weights) > _JOINED:
            return cls(tuple(weights), tuple(biases))
        return cls((torch.cat(weights),), (_joined(biases),))

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of the layers; one output side by side where they are joined."""
        return [linear(x, weight, bias) for weight, bias in zip(self.weights, self.biases, strict=True)]


def _joined(biases: list[torch.Tensor | None]) -> torch.Tensor | None:
    given = [bias for bias in biases if bias is not None]
    return torch.cat(given) if given else None


@dataclass(frozen=True)
class _Layer:
    """Parameters of one layer; `heads_norm` is [query and key heads, head_dim], where there is one."""

    before: torch.Tensor
    qkv: _Product
    heads_norm: torch.Tensor | None
    out: torch.Tensor
    between: torch.Tensor
    gate_up: _Product
    down: torch.Tensor


class Decoder:
    """A decoder with its parameters as they are now; after a change of the parameters a new one must be made."""

    def __init__(self, module: Any) -> None:
        config = module.config
        self.module, self.eps = module, config.rms_norm_eps
        self.heads, self.pairs = config.num_attention_heads, config.num_key_value_heads
        self.width = module.layers[0].self_attn.head_dim
        self.is_autocast = torch.is_autocast_enabled(module.embed_tokens.weight.device.type)
        self.layers = [self._layer(layer) for layer in module.layers]

    @staticmethod
    def of(model: Any) -> Decoder | None:
        """The decoder of a causal language model, or None if it must be called as a module."""
        return Decoder(model.get_decoder()) if Decoder.supports(model) else None

    @staticmethod
    def supports(model: Any) -> bool:
        """Whether `of` has a decoder for a causal language model."""
        return _is_supported(model)

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp, norm = layer.self_attn, layer.mlp, None
        if hasattr(attention, "q_norm"):
            counts = ((attention.q_norm, self.heads), (attention.k_norm, self.pairs))
            norm = torch.cat([each.weight.expand(count, -1) for each, count in counts])
        return _Layer(
            layer.input_layernorm.weight,
            _Product.of(held_in_products, attention.q_proj, attention.k_proj, attention.v_proj),
            norm,
            held_in_products(weight_of(attention.o_proj)),
            layer.post_attention_layernorm.weight,
            _Product.of(held_in_products, mlp.gate_proj, mlp.up_proj),
            held_in_products(weight_of(mlp.down_proj)),
        )

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of the rotary embedding at positions [N], each [N, 1, head_dim]."""
        # A table of all positions, since one position takes many cosines.
        every = torch.arange(int(positions.max()) + 1 if len(positions) else 0, device=positions.device)
        cos, sin = self.module.rotary_emb(self.module.embed_tokens.weight[:1], every[None])
        return cos[0, positions, None], sin[0, positions, None]

    def read(
        self,
        ids: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attend: Attend,
        read: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Last hidden states [M, d] at places `read` [M] of the tokens ids [N]; at all of them where it is None.

        angles: cosine and sine of each token, [N, 1, head_dim]. The last layer computes only the keys and values of all
        tokens and what the places in `read` need.
        """
        table = self.module.embed_tokens
        x = embedding(ids, table.weight, table.padding_idx)
        for number, layer in enumerate(self.layers):
            mixed = self._attention(number, layer, x, angles, attend)
            if read is not None and number == len(self.layers) - 1:
                x, mixed = x[read], mixed[read]
                if not len(read):
                    return x
            x = self._added(x, mixed, layer.out)
            inner = swiglu(*layer.gate_up(rms_norm(x, layer.between, self.eps)))
            x = self._added(x, inner, layer.down)
        return rms_norm(x, self.module.norm.weight, self.eps)

    def _added(self, x: torch.Tensor, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The sum of `x` and states @ weight.T, in the precision of `x`."""
        # Autocast would round the sum too.
        return x + linear(states, weight) if self.is_autocast else torch.addmm(x, states, weight.T)

    def _attention(
        self, number: int, layer: _Layer, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], attend: Attend
    ) -> torch.Tensor:
        """The attention output of all heads, [N, heads * head_dim]."""
        parts = layer.qkv(rms_norm(x, layer.before, self.eps))
        qkv = (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).view(len(x), -1, self.width)
        queries_keys, values = qkv.split([self.heads + self.pairs, self.pairs], 1)
        if layer.heads_norm is not None:
            queries_keys = rms_norm(queries_keys, layer.heads_norm, self.eps)
        queries, keys = rotate(queries_keys, *angles).to(values.dtype).split([self.heads, self.pairs], 1)
        return attend(number, queries, keys, values)


def held_in_products(weight: torch.Tensor) -> torch.Tensor:
    """`weight` in the precision of products, where no gradient flows to it; autocast would cast it in every pass."""
    kind = weight.device.type
    if torch.is_grad_enabled() or not torch.is_autocast_enabled(kind):
        return weight
    return weight.detach().to(torch.get_autocast_dtype(kind))


def causal(rows: int) -> Attend:
    """Attention of every token to itself and the tokens before it, for tokens in `rows` rows of one width."""

    def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        parts = (part.unflatten(0, (rows, -1)).transpose(1, 2) for part in (queries, keys, values))
        return attention(*parts).transpose(1, 2).flatten(2).flatten(0, 1)

    return attend


def attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention [B, heads, T, head_dim] over keys and values [B, key-value heads, S, head_dim]; no mask: causal."""
    groups = queries.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None)


def _is_supported(model: Any) -> bool:
    kind, config = type(model), model.config
    if kind.__name__ not in _SUPPORTED or not kind.__module__.startswith("transformers."):
        return False
    if getattr(config, "per_layer_attributes", None):  # layers of unlike sizes
        return False
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    plain = (
        config.hidden_act == "silu"
        and ropes.get("rope_type", "default") in _ROPES
        and kinds == {"full_attention"}
        and (getattr(config, "sliding_window", None) is None or kind.__name__.startswith("Qwen"))
        and getattr(config, "_attn_implementation", None) == "sdpa"
        and not (model.training and getattr(config, "attention_dropout", 0))
    )
    return plain and all(map(_is_plain, _modules(model.get_decoder())))


def _modules(decoder: Any) -> Iterator[tuple[str, Any]]:
    return ((name.rpartition(".")[2], module) for name, module in decoder.named_modules())


def _is_plain(named: tuple[str, Any]) -> bool:
    """Whether calling the module does only what its own class does, with unsharded weights."""
    name, module = named
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    if module.training and getattr(module, "gradient_checkpointing", False):
        return False
    if name.endswith("_proj"):
        joined = name in ("q_proj", "k_proj", "v_proj")
        plain = type(module) is torch.nn.Linear or is_mergeable(module)
        return plain and (joined or module.bias is None) and _is_unsharded(module.weight)
    weight = getattr(module, "weight", None)
    return weight is None or _is_unsharded(weight)


def _is_unsharded(weight: Any) -> bool:
    return type(weight) in (torch.nn.Parameter, torch.Tensor)
