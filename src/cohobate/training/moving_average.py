"""A model that follows another one: the moving average of its weights, as a teacher that changes slowly.

theta_q <- (1 - f) theta_q + f theta, once after each step; f: the share. After n steps the weights of k steps ago have
the share f (1 - f)^k, and the start has (1 - f)^n. (Tarvainen and Valpola 2017, "Mean teachers are better role
models".)
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, share: float) -> None:
    """Move the weights of `average` by `share` of the way to those of `model`, in place; share: from 0 to 1.

    The average must be float32, or small shares round away. Raises ValueError where that is not so, or where the two
    have other weights.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not at {share}")
    ours, theirs = dict(average.named_parameters()), dict(model.named_parameters())
    if {name: p.shape for name, p in ours.items()} != {name: p.shape for name, p in theirs.items()}:
        raise ValueError("a model can follow one of the same weights only")
    if any(p.dtype not in (torch.float32, torch.float64) for p in ours.values()):
        raise ValueError("the weights of a moving average must be float32")
    for name, parameter in ours.items():
        parameter.lerp_(theirs[name].to(parameter.device, parameter.dtype), share)
