"""The class of transformers that reads a checkpoint as a language model of text.

Checkpoints of images, sound and text are read whole and asked in text, where transformers has no class for their text
alone, or one whose own checkpoints it cannot read again (Emu3, Mllama).
"""

from __future__ import annotations

from typing import Any

from cohobate.core.errors import ModelError


def model_class(config: Any) -> Any:
    """The automatic class of transformers for models with this config. Raises ModelError where there is none."""
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM

    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"a model of type {config.model_type} has an encoder and a decoder; choose one that only decodes"
        )
    text = AutoModelForCausalLM._model_mapping
    if type(config) in text and _first(text[type(config)]).config_class in text:
        return AutoModelForCausalLM
    if type(config) in AutoModelForMultimodalLM._model_mapping:
        return AutoModelForMultimodalLM
    raise ModelError(
        f"transformers has no language model for a model of type {config.model_type}; choose another model"
    )


def _first(classes: Any) -> Any:
    """The class of a config; some have several, of which the first is the usual one."""
    return classes[0] if isinstance(classes, tuple) else classes
