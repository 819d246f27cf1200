"""The shape of a language model, from its config: the one place that knows the names which families give their sizes.

A config is the object that transformers reads, or the dict of a config.json. Checkpoints of images and text nest the
config of their text; GPT-2 says n_embd where Llama says hidden_size; Mamba has no attention, and BLOOM no limit to its
positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cohobate.core.errors import ModelError

_NESTED = ("text_config", "llm_config", "language_config")
_NAMES: dict[str, tuple[str, ...]] = {
    "width": ("hidden_size", "n_embd", "d_model", "dim", "model_dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_kv_heads"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"),
}
# Rotary embeddings whose angles change once the longest row of a batch passes the length of pre-training: what a row
# gives then depends on the rows beside it, and on what was sampled before.
_BY_LENGTH = ("longrope", "dynamic", "su")
# Of an MLP whose config says nothing: what GPT-2, BLOOM and Falcon mean by that.
_WIDENING = 4


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the decoder of text; heads, kv_heads and head_dim are 0 without attention.

    inner: width of the MLP. context: the positions of a row, prompt and response together, None where there is no
    limit. For a rope that depends on the longest row of a batch it is the length up to which it does not.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool
    context: int | None

    @classmethod
    def of(cls, config: Any) -> ModelShape:
        """From a config. Raises ModelError, which names the size, where one is missing that every model has."""
        text = text_config(config)
        width, layers = _needed(text, "width"), _needed(text, "layers")
        heads = _first(text, "heads") or 0
        # The two generations of Falcon: one head of keys and values for all, or as many as `num_kv_heads`.
        single = bool(read(text, "multi_query")) and not read(text, "new_decoder_architecture")
        kv_heads = 1 if single else _first(text, "kv_heads") or heads
        return cls(
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=largest_size(read(text, "head_dim")) or (width // heads if heads else 0),
            inner=_first(text, "inner") or _WIDENING * width,
            vocabulary=_needed(text, "vocabulary", ("vocab_size",)),
            tied=bool(_either(config, text, "tie_word_embeddings")),
            context=context_of(config),
        )


def text_config(config: Any) -> Any:
    """The config of the text of a checkpoint: a nested one, or `config` itself."""
    for name in _NESTED:
        nested = read(config, name)
        if nested is not None:
            return nested
    return config


def read(config: Any, name: str) -> Any:
    """A value of a config, None where there is none; a list with one for each layer where layers have their own."""
    if isinstance(config, Mapping):
        return config.get(name)
    if name in (getattr(config, "per_layer_attributes", None) or ()):
        return [getattr(layer, name, None) for layer in config.per_layer_config]
    return getattr(config, name, None)


def context_of(config: Any) -> int | None:
    """The positions of a row, prompt and response together; see `ModelShape`."""
    text = text_config(config)
    limits = (_first(text, "context"), rope_limit(config))
    return min((limit for limit in limits if limit), default=None)


def rope_limit(config: Any) -> int | None:
    """The length up to which a row's rotary embedding depends on the row alone; None where it always does."""
    text = text_config(config)
    limits = []
    for rope in _ropes(text):
        if (rope.get("rope_type") or rope.get("type")) in _BY_LENGTH:
            original = rope.get("original_max_position_embeddings") or read(text, "original_max_position_embeddings")
            limits.append(largest_size(original) or _first(text, "context"))
    return min((limit for limit in limits if limit), default=None)


def _ropes(text: Any) -> list[Mapping[str, Any]]:
    """The settings of rotary embeddings: one, or one for each kind of layer."""
    ropes: list[Mapping[str, Any]] = []
    for name in ("rope_parameters", "rope_scaling"):
        value = read(text, name)
        if isinstance(value, Mapping):
            ropes += [value, *(each for each in value.values() if isinstance(each, Mapping))]
    return ropes


def _needed(text: Any, size: str, names: tuple[str, ...] | None = None) -> int:
    value = _first(text, size, names)
    if value is None:
        kind = read(text, "model_type") or "the model"
        raise ModelError(
            f"the config of {kind} does not give its {size}; known names of it are {', '.join(names or _NAMES[size])}"
        )
    return value


def _first(text: Any, size: str, names: tuple[str, ...] | None = None) -> int | None:
    values = (largest_size(read(text, name)) for name in names or _NAMES[size])
    return next((value for value in values if value), None)


def largest_size(value: Any) -> int | None:
    """A size; the largest of those of the layers where they have their own."""
    if isinstance(value, (list, tuple)):
        sizes = [each for each in map(largest_size, value) if each]
        return max(sizes, default=None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _either(config: Any, text: Any, name: str) -> Any:
    value = read(config, name)
    return read(text, name) if value is None else value
