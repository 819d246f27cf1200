"""AdamW and its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from cohobate.config import Training
from cohobate.training.learner import full_tensor, shard_like


def make_optimizer(parameters: Iterable[torch.nn.Parameter], config: Training) -> tuple[Any, Any]:
    """AdamW (no decay on norms and biases) and its schedule: linear warm-up, then config.schedule."""
    trainable = list(parameters)
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, config))
    return optimizer, schedule


def full_state(optimizer: Any) -> dict[str, Any]:
    """The optimizer's state with full tensors, however its parameters are sharded; every rank must call it."""
    own: dict[str, Any] = optimizer.state_dict()
    state = {index: {name: full_tensor(value) for name, value in item.items()} for index, item in own["state"].items()}
    return {**own, "state": state}


def load_full_state(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load what `full_state` returned, under the sharding that the parameters have now."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        index: {name: shard_like(parameters[index], value) for name, value in item.items()}
        for index, item in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})


def lr_factor(step: int, config: Training) -> float:
    """The factor of config.lr at `step` (from 0): it rises over `warmup` steps and ends at min_lr_ratio."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    falling = 1 - share
    if config.schedule == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * share))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * falling
