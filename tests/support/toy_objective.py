"""An objective of another package, as its author would write it: towards the teacher's most probable tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohobate.core.settings import Section, Weight
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds

if TYPE_CHECKING:
    import torch


class ToySettings(Section):
    """Cross-entropy on the teacher's most probable tokens."""

    strength: Weight = 1.0
    """A factor of the loss."""


class Toy(OnPolicyObjective[ToySettings]):
    """The teacher's most probable token at each place of a rollout."""

    name = "toy"
    settings = ToySettings
    version = 3

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(ghosts=True)

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        def weighted(logits: torch.Tensor, tokens: Tokens) -> Terms:
            from torch.nn import functional

            ghosts = required(tokens.ghost_ids, "ghost_ids")
            return {"loss": self.own.strength * functional.cross_entropy(logits, ghosts, reduction="sum")}

        return weighted
