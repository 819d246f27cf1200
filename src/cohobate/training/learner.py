"""The module that learns: from a batch to the terms of an objective, in one process or sharded over the ranks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from cohobate.models.batching import Batch, hidden_states
from cohobate.models.decoder_module import layers_of
from cohobate.models.output_layer import OutputLayer
from cohobate.models.token_loss import Terms, TokenLoss, evaluate_in_chunks


class Learner(nn.Module):
    """A causal language model with its loss inside `forward`, since sharded weights are gathered only there."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.output = OutputLayer(model)

    def forward(self, batch: Batch, objective: TokenLoss) -> Terms:
        """The terms of `objective` over the response tokens of `batch`."""
        hidden = hidden_states(self.model, batch)
        return evaluate_in_chunks(objective, self.output, hidden, batch.tokens, self.output.vocabulary)


def sharded(model: Any) -> Learner:
    """A copy of `model` whose weights, gradients and optimizer state are divided among the ranks (FSDP2).

    `model` stays unsharded, for rollouts and evaluation; `copy_full_weights` brings it up to date.
    """
    from torch.distributed.fsdp import fully_shard

    learner = Learner(copy.deepcopy(model))
    for layer in layers_of(learner.model) or ():
        fully_shard(layer)
    fully_shard(learner)
    return learner


@torch.no_grad()
def copy_full_weights(learner: Learner, model: Any) -> None:
    """Copy the weights of a sharded learner into `model`; every rank must call it."""
    parameters = dict(model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        parameters[name].copy_(full_tensor(parameter))


def full_tensor(value: Any) -> Any:
    """A sharded tensor put together, for which every rank must call this; any other value unchanged."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def shard_like(parameter: torch.Tensor, value: Any) -> Any:
    """A full tensor of the parameter's shape, sharded as the parameter is; any other value unchanged."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None or not torch.is_tensor(value) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]
