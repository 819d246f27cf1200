"""The row of the padding token in an embedding, which a class of transformers may set to zero whenever it is loaded.

Youtu's does, whatever its checkpoint holds: it initialises a slice of the weights, which does not know that they were
read. Where the head is tied to the embedding, that row gives the token's logit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def restore_padding_rows(path: Path, model: Any) -> None:
    """Give each embedding of `model` the row of its padding token that the checkpoint in `path` has."""
    import torch
    from safetensors import safe_open

    embeddings = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None and not module.weight.is_meta
    }
    for file in sorted(path.glob("*.safetensors")) if embeddings else ():
        with safe_open(file, framework="pt") as tensors:
            for name, module in embeddings.items():
                stored = _stored(tensors, f"{name}.weight", module.weight)
                if stored is not None:
                    row = module.padding_idx
                    with torch.no_grad():
                        module.weight[row] = stored[row].to(module.weight)


def _stored(tensors: Any, name: str, weight: torch.Tensor) -> Any:
    """The slice of a file that has the weights of a parameter, which may lie below another prefix; None without one."""
    keys = [key for key in list(tensors.keys()) if key.split(".")[-2:] == name.split(".")[-2:]]
    alike = [key for key in keys if tensors.get_slice(key).get_shape() == list(weight.shape)]
    if name in alike:
        return tensors.get_slice(name)
    return tensors.get_slice(alike[0]) if len(alike) == 1 else None
