"""Logit distillation on given text: the teacher's distribution beside its token.

L = (1/N) sum_t [alpha tau^2 KL(q_tau || p_tau) + (1 - alpha) (-log p(y_t))]

p: the student; q: the teacher; p_tau, q_tau: both at temperature tau, whose square keeps the size of the gradient
(Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2). Of top-k and a tail, the K + 1 buckets
are tempered, since the tokens inside the teacher's tail are not known. KL and the cross-entropy -sum q log p differ by
the teacher's entropy, which has no gradient; a hard label is the case S = {y}, q = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cohobate.core.settings import Positive, Section, Share
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens
from cohobate.training.objectives.base import OffPolicyObjective, TeacherNeeds, loaded
from cohobate.training.objectives.distributions import FullVocabulary, View, kl, tempered, top_k_and_tail
from cohobate.training.objectives.policy_gradient import entropy, token_logprobs

if TYPE_CHECKING:
    import torch


class LogitKdSettings(Section):
    """Logit distillation: the teacher's distribution over each token of its own text."""

    top_k: Positive | None = None
    """The teacher's k likeliest tokens and a bucket for the rest; None: its whole vocabulary."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of both distributions."""
    alpha: Share = 1.0
    """Share of the KL; the rest is cross-entropy."""


class LogitKd(OffPolicyObjective[LogitKdSettings]):
    """The teacher's whole distribution at each of its tokens."""

    name = "logit_kd"
    settings = LogitKdSettings
    for_server = "sft.logit_kd.top_k"

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(hidden=self.own.top_k is None, top_k=self.own.top_k)

    def refusals(self) -> Iterator[str]:
        if self.config.format == "plain":
            yield "objective = 'logit_kd' needs format = 'chat', which is what the teacher can score"

    def loss(self, teacher_head: Head | None) -> TokenLoss:

        view = top_k_and_tail if self.own.top_k else FullVocabulary(loaded(teacher_head))
        return LogitDistillation(view, self.own.temperature, self.own.alpha)


@dataclass(frozen=True)
class LogitDistillation:
    """view: FullVocabulary(teacher_head) or top_k_and_tail; temperature: tau > 0; alpha: the share of the KL."""

    view: View
    temperature: float = 1.0
    alpha: float = 1.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs what the view needs. forward_kl is at the temperature tau."""
        student, teacher = self.view(logits, tokens)
        soft = kl(tempered(teacher, self.temperature), tempered(student, self.temperature)).sum()
        # The hard label that has no share of the loss is a metric, and costs no gradient.
        logprobs = (logits.detach() if self.alpha == 1 else logits).log_softmax(-1)
        hard = -token_logprobs(logprobs, tokens.ids).sum()
        return {
            "loss": self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard,
            "forward_kl": soft.detach(),
            "cross_entropy": hard.detach(),
            "entropy": entropy(logprobs.detach()).sum(),
        }
