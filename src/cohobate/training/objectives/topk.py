"""Reverse or forward KL between the buckets of the teacher's top-k S and one tail bucket, for a server teacher.

reverse:  L = (1/N) sum_t [sum_S p_v (log p_v - log q_v) + p_tail (log p_tail - log q_tail)]
forward:  the same with p and q exchanged;  p_tail = 1 - sum_S p,  q_tail = 1 - sum_S q

It is 0 only where all buckets agree, and a lower bound of the KL over the whole vocabulary. Without the tail it would
not be a divergence: the reverse form is least with a student that gives S the mass (1/e) sum_S q, the forward form
with one that gives it everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cohobate.core.settings import Positive, Section
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds
from cohobate.training.objectives.distributions import kl, top_k_and_tail
from cohobate.training.objectives.policy_gradient import diagnostics

if TYPE_CHECKING:
    import torch


class TopKSettings(Section):
    """KL on the teacher's k likeliest tokens and a bucket for the rest."""

    k: Positive = 16
    """Tokens."""
    direction: Literal["reverse", "forward"] = "reverse"
    """reverse: KL(student || teacher). forward: KL(teacher || student)."""


class TopK(OnPolicyObjective[TopKSettings]):
    """KL on the teacher's likeliest tokens."""

    name = "topk"
    settings = TopKSettings

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(top_k=self.own.k)

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return TopKKL(self.own.direction)


@dataclass(frozen=True)
class TopKKL:
    """direction: "reverse", KL(p || q), or "forward", KL(q || p)."""

    direction: Literal["reverse", "forward"] = "reverse"

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_top_ids and teacher_top_logprobs.

        teacher_tail and student_tail are the masses outside S, summed over tokens.
        """
        student, teacher = top_k_and_tail(logits, tokens)
        divergence = kl(student, teacher) if self.direction == "reverse" else kl(teacher, student)
        detached = student.detach()
        return {
            "loss": divergence.sum(),
            "reverse_kl": kl(detached, teacher).sum(),
            "forward_kl": kl(teacher, detached).sum(),
            "teacher_tail": teacher[:, -1].exp().sum(),
            "student_tail": detached[:, -1].exp().sum(),
            **diagnostics(logits.detach().log_softmax(-1), tokens),
        }
