"""LoRA adapters (Hu et al. 2021): put into the student in place, and merged into copies of its weights.

Rollouts, scoring and updates all use the adapted weights. The merged model, which loads anywhere, is published with the
adapter beside it.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from cohobate.config import Training
from cohobate.core.errors import UserError


@torch.no_grad()
def full_weights(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Copies of the weights of `model` on the CPU in `dtype`, by the names that its checkpoint has.

    LoRA adapters are merged into them; a tensor with two names, such as a tied output layer, has one.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        value = parameter
        if name.endswith(".base_layer.weight"):
            layer = model.get_submodule(name.removesuffix(".base_layer.weight"))
            value = parameter + layer.get_delta_weight("default").to(parameter.dtype)
        weights[name.replace(".base_layer.", ".")] = value.detach().to("cpu", dtype, copy=True).contiguous()
    return weights


def with_lora(model: Any, config: Training, base: str) -> Any:
    """`model` with the adapters of `config.lora`; base: the base model's name in the adapter's configuration.

    Raises UserError where LoRA is not installed or does not fit the student.
    """
    try:
        import peft
    except ImportError:
        raise UserError("LoRA needs the package peft; install it with `pip install 'cohobate[lora]'`") from None

    lora = config.lora
    assert lora is not None
    torch.manual_seed(config.seed)
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    try:
        with warnings.catch_warnings():
            # Of names that transformers deprecates, and of the base's name, which is set below.
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"LoRA does not fit the student: {str(error).splitlines()[0]}") from None
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted
