"""The part of a causal language model that gives its last hidden states, as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Where a class does not name it.
_USUAL = ("model", "transformer", "backbone", "decoder")


def decoder_module(model: Any) -> Any:
    """The decoder of `model`; `model` itself where its class does not tell it from the output layer.

    Llama 4's class of text gives itself for its decoder, and ModernBERT's its output layer.
    """
    own = model.get_decoder()
    if own is not model and _embeds(own, model):
        return own
    names = (getattr(model, "base_model_prefix", ""), *_USUAL)
    parts = (getattr(model, name, None) for name in names if name)
    return next((part for part in parts if part is not model and _embeds(part, model)), model)


def _embeds(part: Any, model: Any) -> bool:
    """Whether `part` reads token ids: it has the embedding."""
    embedding = model.get_input_embeddings()
    return hasattr(part, "modules") and any(module is embedding for module in part.modules())


def layers_of(model: Any) -> nn.ModuleList | None:
    """The layers of the decoder, by whatever name; None where it has no list of them."""
    from torch import nn

    decoder = decoder_module(model)
    lists = [child for child in decoder.children() if isinstance(child, nn.ModuleList)]
    return max(lists, key=len, default=None)
