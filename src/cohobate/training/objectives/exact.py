"""Exact reverse KL: the student's own rollouts, with the teacher's whole distribution at each of their tokens.

L = (1/N) sum_t sum_v p_v (log p_v - log q_v)

p: the student now; q: the teacher. The default with a teacher in this process: of all on-policy objectives it has the
least variance. (Agarwal et al. 2024, "On-Policy Distillation of Language Models".)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohobate.core.settings import Section
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds, loaded
from cohobate.training.objectives.distributions import FullVocabulary, kl
from cohobate.training.objectives.policy_gradient import diagnostics

if TYPE_CHECKING:
    import torch


class Exact(OnPolicyObjective[Section]):
    """Reverse KL over the whole vocabulary."""

    name = "exact"

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(hidden=True)

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return ExactReverseKL(loaded(teacher_head))


@dataclass(frozen=True)
class ExactReverseKL:
    """Reverse KL over the whole vocabulary, with the teacher's logits from its hidden states."""

    teacher_head: Head

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_hidden and, for the mismatch, sampler_logprobs."""
        required(tokens.sampler_logprobs, "sampler_logprobs")
        student, teacher = FullVocabulary(self.teacher_head)(logits, tokens)
        loss = kl(student, teacher).sum()
        # The sampler's policy has the padding rows of the student, if there are any.
        padded = student if student.shape == logits.shape else logits.log_softmax(-1)
        return {"loss": loss, "reverse_kl": loss.detach(), **diagnostics(padded, tokens)}
