"""LoRA adapters merged into copies of the weights, for passes without gradients: peft adds two products to each.

In float32 the logits are those of the separate products up to the order of additions. In bfloat16 the sum is rounded
once, as it is in the model that is published.
"""

from __future__ import annotations

from typing import Any

import torch

_NAME = "default"


def is_mergeable(module: Any) -> bool:
    """Whether `module` is a linear layer with one plain LoRA adapter, in a pass that needs none of its gradients."""
    if torch.is_grad_enabled() or not _is_lora_linear(module):
        return False
    drops = module.training and type(module.lora_dropout[_NAME]) is not torch.nn.Identity
    return type(module.base_layer) is torch.nn.Linear and not drops


def weight_of(layer: Any) -> torch.Tensor:
    """The weight [out, in] of a linear layer, with its adapter merged in where it has one that is switched on."""
    weight: torch.Tensor = layer.weight
    if not _is_lora_linear(layer) or layer.disable_adapters:
        return weight
    with torch.autocast(weight.device.type, enabled=False):
        delta: torch.Tensor = layer.get_delta_weight(_NAME)
        return weight.detach().float() + delta


def _is_lora_linear(module: Any) -> bool:
    kind = type(module)
    if kind.__name__ != "Linear" or not kind.__module__.startswith("peft.tuners.lora."):
        return False
    others = module.merged or module.lora_variant or any(module.lora_bias.values())
    return not others and list(module.active_adapters) == [_NAME] and list(module.lora_A) == [_NAME]
