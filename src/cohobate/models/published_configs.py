"""Published shapes of well-known models, so that the cost of a recipe can be estimated without their weights.

The shapes are those of the config.json on each model's public page; they give the parameter counts of its card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_DENSE = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "vocab_size", "tie_word_embeddings"),
)
_MIXTURE = (*_DENSE, "moe_intermediate_size", "num_experts", "num_experts_per_tok")
_GPT_OSS = (*_DENSE, "num_local_experts", "num_experts_per_tok", "sliding_window")
_SHAPES: dict[str, tuple[str, tuple[str, ...], tuple[int | bool, ...]]] = {
    "Qwen3-0.6B": ("qwen3", _DENSE, (1024, 28, 16, 8, 128, 3072, 151936, True)),
    "Qwen3-1.7B": ("qwen3", _DENSE, (2048, 28, 16, 8, 128, 6144, 151936, True)),
    "Qwen3-4B": ("qwen3", _DENSE, (2560, 36, 32, 8, 128, 9728, 151936, True)),
    "Qwen3-8B": ("qwen3", _DENSE, (4096, 36, 32, 8, 128, 12288, 151936, False)),
    "Qwen3-14B": ("qwen3", _DENSE, (5120, 40, 40, 8, 128, 17408, 151936, False)),
    "Qwen3-32B": ("qwen3", _DENSE, (5120, 64, 64, 8, 128, 25600, 151936, False)),
    "Qwen3-30B-A3B": ("qwen3_moe", _MIXTURE, (2048, 48, 32, 4, 128, 6144, 151936, False, 768, 128, 8)),
    "Qwen3-235B-A22B": ("qwen3_moe", _MIXTURE, (4096, 94, 64, 4, 128, 12288, 151936, False, 1536, 128, 8)),
    "gpt-oss-20b": ("gpt_oss", _GPT_OSS, (2880, 24, 64, 8, 64, 2880, 201088, False, 32, 4, 128)),
    "gpt-oss-120b": ("gpt_oss", _GPT_OSS, (2880, 36, 64, 8, 64, 2880, 201088, False, 128, 4, 128)),
    "Llama-3.2-1B": ("llama", _DENSE, (2048, 16, 32, 8, 64, 8192, 128256, True)),
    "Llama-3.2-3B": ("llama", _DENSE, (3072, 28, 24, 8, 128, 8192, 128256, True)),
    "Llama-3.1-8B": ("llama", _DENSE, (4096, 32, 32, 8, 128, 14336, 128256, False)),
    "Llama-3.3-70B": ("llama", _DENSE, (8192, 80, 64, 8, 128, 28672, 128256, False)),
}
# Endings of names that mean further training or a format, with the same shape.
_ENDINGS = ("-Instruct", "-Base", "-FP8", "-it", "-Instruct-2507", "-Thinking-2507")


def names() -> list[str]:
    """The models whose shape is known."""
    return list(_SHAPES)


def published_config(name: str) -> Any:
    """The configuration of the model at the end of a path or name such as `models/Qwen3-8B`; None if it is not known.

    It is one of transformers, with the shape of the model.
    """
    last = Path(name).name
    for ending in _ENDINGS:
        last = last.removesuffix(ending)
    if last not in _SHAPES:
        return None
    from transformers import AutoConfig

    kind, fields, values = _SHAPES[last]
    return AutoConfig.for_model(kind, **dict(zip(fields, values, strict=True)))
