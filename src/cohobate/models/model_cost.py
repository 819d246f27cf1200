"""The size of a model and the cost of its tokens, counted in its modules, from its configuration alone.

The model is built on the meta device of torch, without memory for its weights. So every architecture of transformers is
counted as it is: each matrix of the decoder takes part in a product for every token, and of a mixture's experts those
that the router chooses. What a recurrent layer does with its state is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import ModelShape, largest_size, read
from cohobate.core.sanitize import first_line
from cohobate.models.decoder_module import decoder_module
from cohobate.models.loading import read_config
from cohobate.models.model_class import model_class
from cohobate.store.compute_ledger import ModelCost

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Names that configurations have for the number of experts of a layer, and of those that a token goes through.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
# Layers of these kinds have a state of a fixed size, whatever their modules are called.
_RECURRENT = ("linear_attention", "mamba", "recurrent", "conv")
_NEAR = ("sliding_attention", "chunked_attention", "local_attention")


@dataclass(frozen=True)
class AttentionLayer:
    """The shape of one layer of attention; window: the number of tokens that it reaches back, 0 for all of them."""

    heads: int
    cached_heads: int
    key_width: int
    value_width: int
    window: int

    @property
    def pair(self) -> int:
        """FLOPs of the two products for one (query, key) pair."""
        return 2 * self.heads * (self.key_width + self.value_width)


@dataclass(frozen=True)
class _Config:
    """A configuration, the same as another one where their texts are; the text cannot always be read (infinity)."""

    kind: Any
    text: str
    config: Any = field(compare=False)


def once_per_config(measure: Callable[..., T]) -> Callable[..., T]:
    """`measure(config, ...)`, which computes once for equal configurations of transformers and other arguments."""

    @functools.lru_cache(maxsize=128)
    def cached(key: _Config, *rest: Any) -> T:
        return measure(key.config, *rest)

    @functools.wraps(measure)
    def remembered(config: Any, *rest: Any) -> T:
        return cached(_Config(type(config), config.to_json_string(use_diff=False), config), *rest)

    return remembered


@once_per_config
def cost_of(config: Any) -> ModelCost:
    """The cost of a model with this configuration of transformers. Raises ModelError where no such model is known."""
    model = skeleton(config)
    layers = attention_layers(model)
    windows = {layer.window for layer in layers if layer.window}
    return ModelCost(
        params=sum(parameter.numel() for parameter in model.parameters()),
        linear=round(2 * _weights_per_token(model)),
        pair=sum(layer.pair for layer in layers if not layer.window),
        head=2 * model.get_output_embeddings().weight.numel(),
        near_pair=sum(layer.pair for layer in layers if layer.window),
        window=max(windows, default=0),
    )


def cost_of_folder(folder: Path) -> ModelCost:
    """The cost of the model in a folder, from its config.json. Raises ModelError for a damaged one."""
    return cost_of(read_config(folder))


def skeleton(config: Any, dtype: torch.dtype | None = None) -> Any:
    """The model of a configuration on torch's meta device, without memory for its weights.

    Raises ModelError where there is no such model.
    """
    import torch

    try:
        with torch.device("meta"):
            return model_class(config).from_config(config, dtype=dtype or torch.float32)
    except ModelError:
        raise
    except Exception as error:  # transformers raises ValueError, KeyError, AttributeError, ...
        raise ModelError(f"a model of type {config.model_type} cannot be built: {first_line(error)}") from error


def attention_layers(model: Any) -> list[AttentionLayer]:
    """The layers of attention of a model's decoder, in their order."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    layers = []
    for module in decoder_module(model).modules():
        number = getattr(module, "layer_idx", None)
        if "Attention" not in type(module).__name__ or number is None:
            continue
        kind = kinds[number] if kinds else ""
        if not kind.startswith(_RECURRENT):
            layers.append(_shape(module, config, kind))
    return layers


@once_per_config
def cached_bytes(config: Any, size: int) -> int:
    """Bytes of keys and values per token of a row, in numbers of `size` bytes."""
    layers = attention_layers(skeleton(config))
    return size * sum(layer.cached_heads * (layer.key_width + layer.value_width) for layer in layers)


def _shape(module: Any, config: Any, kind: str) -> AttentionLayer:
    heads = ModelShape.of(config).heads
    width = getattr(module, "head_dim", None) or ModelShape.of(config).head_dim
    if hasattr(module, "qk_head_dim"):  # latent attention: every head has its own keys
        return AttentionLayer(heads, heads, module.qk_head_dim, module.v_head_dim, 0)
    return AttentionLayer(heads, _cached_heads(module, config, width), width, width, _window(module, config, kind))


def _cached_heads(module: Any, config: Any, width: int) -> int:
    """The number of heads that have keys of their own."""
    projection = getattr(module, "k_proj", None)
    if projection is not None and hasattr(projection, "out_features"):
        return int(projection.out_features // width)
    return ModelShape.of(config).kv_heads


def _window(module: Any, config: Any, kind: str) -> int:
    if kind == "chunked_attention":
        return int(config.attention_chunk_size)
    if kind and kind not in _NEAR:
        return 0
    if hasattr(module, "sliding_window"):
        return int(module.sliding_window or 0)
    own = read(config, "sliding_window")
    return int((own[module.layer_idx] if isinstance(own, list) else own) or 0)


def _weights_per_token(model: Any) -> float:
    """The number of weights of the decoder's layers that are factors in a product for one token.

    Those are all but embeddings, norms and biases; of a mixture's experts, the ones that the router chooses.
    """
    import torch

    config = model.config.get_text_config()
    experts, chosen = (_first(config, names) for names in (_EXPERTS, _CHOSEN))
    head = model.get_output_embeddings()
    total = 0.0
    for name, module in model.get_decoder().named_modules():
        if isinstance(module, torch.nn.Embedding) or module is head:
            continue
        for own, parameter in module.named_parameters(recurse=False):
            routed = experts and chosen and ((parameter.ndim == 3 and len(parameter) == experts) or ".experts." in name)
            if parameter.ndim >= 2 and not own.endswith("bias"):
                total += parameter.numel() * (min(1.0, chosen / experts) if routed else 1.0)
    return total


def _first(config: Any, names: Sequence[str]) -> int:
    """The first of these settings that is a number; 0 where there is none."""
    return next((value for name in names if (value := largest_size(read(config, name)))), 0)
