"""Published shapes of well-known models, so that the cost of a recipe can be estimated without their weights.

The shapes are those of the config.json on each model's public page; they give the parameter counts of its card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "vocab_size", "tie_word_embeddings"),
)
_SHAPES: dict[str, tuple[int | bool, ...]] = {
    "Qwen3-0.6B": (1024, 28, 16, 8, 128, 3072, 151936, True),
    "Qwen3-1.7B": (2048, 28, 16, 8, 128, 6144, 151936, True),
    "Qwen3-4B": (2560, 36, 32, 8, 128, 9728, 151936, True),
    "Qwen3-8B": (4096, 36, 32, 8, 128, 12288, 151936, False),
    "Qwen3-14B": (5120, 40, 40, 8, 128, 17408, 151936, False),
    "Qwen3-32B": (5120, 64, 64, 8, 128, 25600, 151936, False),
    "Llama-3.2-1B": (2048, 16, 32, 8, 64, 8192, 128256, True),
    "Llama-3.2-3B": (3072, 28, 24, 8, 128, 8192, 128256, True),
    "Llama-3.1-8B": (4096, 32, 32, 8, 128, 14336, 128256, False),
    "Llama-3.3-70B": (8192, 80, 64, 8, 128, 28672, 128256, False),
}
# Endings of names that mean further training or a format, with the same shape.
_ENDINGS = ("-Instruct", "-Base", "-FP8", "-it")


def names() -> list[str]:
    """The models whose shape is known."""
    return list(_SHAPES)


def published_config(name: str) -> dict[str, Any] | None:
    """The shape of the model at the end of a path or name such as `models/Qwen3-8B`, or None if it is not known."""
    last = Path(name).name
    for ending in _ENDINGS:
        last = last.removesuffix(ending)
    shape = _SHAPES.get(last)
    return dict(zip(_FIELDS, shape, strict=True)) if shape else None
