"""Supervised fine-tuning: L = -(1/N) sum_t log p(y_t | x, y_<t)."""

from __future__ import annotations

import torch

from cohobate.models.token_loss import Terms, Tokens


def cross_entropy(logits: torch.Tensor, tokens: Tokens) -> Terms:
    """Negative log-likelihood of `tokens.ids` [N] under `logits` [N, V], summed; nats."""
    loss = torch.nn.functional.cross_entropy(logits, tokens.ids, reduction="sum")
    return {"loss": loss}
