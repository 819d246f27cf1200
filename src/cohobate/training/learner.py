"""The module that learns: from a batch to the terms of an objective, whole or sharded over the ranks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from cohobate.models.batching import Batch, hidden_states
from cohobate.models.token_loss import Terms, TokenLoss, evaluate_in_chunks


class Learner(nn.Module):
    """A causal language model with its loss inside `forward`, since sharded weights are whole only there."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, objective: TokenLoss) -> Terms:
        """The terms of `objective` over the response tokens of `batch`."""
        head = self.model.get_output_embeddings()
        hidden = hidden_states(self.model, batch)
        return evaluate_in_chunks(objective, head, hidden, batch.tokens, head.out_features)


def sharded(model: Any) -> Learner:
    """A copy of `model` whose weights, gradients and optimizer state are divided among the ranks (FSDP2).

    `model` stays whole, for rollouts and evaluation; `copy_whole` brings it up to date.
    """
    from torch.distributed.fsdp import fully_shard

    learner = Learner(copy.deepcopy(model))
    for layer in learner.model.get_decoder().layers:
        fully_shard(layer)
    fully_shard(learner)
    return learner


@torch.no_grad()
def copy_whole(learner: Learner, model: Any) -> None:
    """Give `model` the weights of a sharded learner; every rank must call it."""
    found = dict(model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        found[name].copy_(whole(parameter))


def whole(value: Any) -> Any:
    """A sharded tensor put together, which every rank must call; anything else as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def like(parameter: torch.Tensor, value: Any) -> Any:
    """A whole `value` of the parameter's shape, sharded as the parameter is."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None or not torch.is_tensor(value) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]
