"""Skip the part of the last layer that is not read.

In the last layer, a position that is not read contributes only its keys and values, so its share of the MLP - two
thirds of the layer - need not be computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def mlp_only_at(decoder: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """In this context the last MLP of `decoder` sees positions (rows[i], columns[i]) only; elsewhere it adds nothing.

    Outputs at other positions are then meaningless. A decoder whose last layer has no dense `mlp`, or is computed
    again in the backward pass, is left unchanged.
    """
    mlp = _dense_mlp(decoder)
    if mlp is None:
        yield
        return
    shapes: list[torch.Size] = []

    def select(module: Any, args: tuple[torch.Tensor]) -> torch.Tensor:
        shapes.append(args[0].shape)
        return args[0][rows, columns][None]

    def spread(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        everywhere = output.new_zeros(shapes.pop())
        everywhere[rows, columns] = output[0]
        return everywhere

    hooks = [mlp.register_forward_pre_hook(select), mlp.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _dense_mlp(decoder: Any) -> Any:
    """The MLP of the last layer, or None if it cannot be called on some positions alone."""
    layers = getattr(decoder, "layers", None)
    if not layers or _recomputes(decoder):
        return None
    mlp = getattr(layers[-1], "mlp", None)
    return mlp if hasattr(mlp, "down_proj") and not hasattr(mlp, "experts") else None


def _recomputes(decoder: Any) -> bool:
    """Whether activations are computed again in the backward pass, when the hooks are gone."""
    return any(module.training and getattr(module, "gradient_checkpointing", False) for module in decoder.modules())
