"""No response goes beyond the positions of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cohobate.core.errors import ModelError
from cohobate.core.model_shape import context_of


def room_behind(model: Any, prompts: Sequence[Sequence[int]], wanted: int) -> list[int]:
    """Of `wanted` tokens behind each prompt, as many as the model's context has room for; at least one.

    Raises ModelError for a prompt that fills the context.
    """
    context = context_of(model.config)
    if context is None:
        return [wanted] * len(prompts)
    longest = max(map(len, prompts))
    if longest >= context:
        raise ModelError(
            f"a prompt has {longest} tokens, but the context of {type(model).__name__} is {context}; shorten or leave "
            "out the question"
        )
    return [min(wanted, context - len(prompt)) for prompt in prompts]
