"""A teacher that is the student itself: its weights as the training begins, or a moving average of them.

    theta_q <- (1 - f) theta_q + f theta, once after each update; f: the share (`teacher.follow`)

After n updates the weights of k updates ago have the share f (1 - f)^k, and the start has (1 - f)^n. (Tarvainen and
Valpola 2017, "Mean teachers are better role models".)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from cohobate.models.loading import LoadedModel
from cohobate.training.learner import full_tensor


def copy_of(student: LoadedModel) -> LoadedModel:
    """A copy of the student that learns nothing by itself, before adapters are put into it; float32, as the student.

    In bfloat16 the small steps of an average would round away.
    """
    model = copy.deepcopy(student.model)
    return replace(student, model=model.requires_grad_(False).eval())


class MovingAverage:
    """The weights of `model`, which follow those of a student by `share` after each update; the same in all processes.

    They are moved in place. Raises ValueError where a weight is not float32, since small shares would round away.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.weights, self.share = dict(model.named_parameters()), share
        if any(weight.dtype not in (torch.float32, torch.float64) for weight in self.weights.values()):
            raise ValueError("the weights of a moving average must be float32")

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move by the share towards the weights of `student`, which may be sharded: every process must call this."""
        theirs = dict(student.named_parameters())
        if theirs.keys() != self.weights.keys():
            raise ValueError("a moving average follows a student of the same weights only")
        for name, weight in self.weights.items():
            weight.lerp_(full_tensor(theirs[name]).to(weight.device, weight.dtype), self.share)

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by name, for a snapshot."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    @torch.no_grad()
    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Take the weights of a snapshot."""
        for name, weight in self.weights.items():
            weight.copy_(saved[name])
