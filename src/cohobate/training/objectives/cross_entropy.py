"""Supervised fine-tuning on the teacher's tokens: L = -(1/N) sum_t log p(y_t | x, y_<t)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohobate.core.settings import Section
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens
from cohobate.training.objectives.base import OffPolicyObjective

if TYPE_CHECKING:
    import torch


class CrossEntropy(OffPolicyObjective[Section]):
    """The teacher's tokens."""

    name = "cross_entropy"

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return cross_entropy


def cross_entropy(logits: torch.Tensor, tokens: Tokens) -> Terms:
    """Negative log-likelihood of `tokens.ids` [N] under `logits` [N, V], summed; nats."""
    from torch.nn import functional

    return {"loss": functional.cross_entropy(logits, tokens.ids, reduction="sum")}
