"""Generalised knowledge distillation: forward KL, reverse KL, and the Jensen-Shannon divergences between them.

L = (1/N) sum_t [beta KL(q || m) + (1 - beta) KL(p || m)] / (beta (1 - beta)),  m = (1 - beta) p + beta q
beta = 0: KL(q || p), forward;  beta = 1: KL(p || q), reverse: the limits of the formula

p: the student; q: the teacher. Agarwal et al. 2024 (eq. 1), and TRL with them, do not divide by beta (1 - beta): their
divergence shrinks to 0 as beta nears 0 or 1 but jumps to the KL at 0 and 1, so that another beta is another learning
rate. Here the loss is continuous in beta; at 1/2 it is 4 times theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohobate.core.settings import Section, Share
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds, loaded
from cohobate.training.objectives.distributions import FullVocabulary, View, floored, kl
from cohobate.training.objectives.policy_gradient import diagnostics

if TYPE_CHECKING:
    import torch


class GkdSettings(Section):
    """Generalised knowledge distillation."""

    beta: Share = 0.5
    """0: forward KL. 1: reverse KL. Between: the generalised Jensen-Shannon divergence."""
    on_policy: Share = 1.0
    """Share of the steps that learn from rollouts; the others learn from the triples."""


class Gkd(OnPolicyObjective[GkdSettings]):
    """Forward, reverse or Jensen-Shannon KL, on and off policy."""

    name = "gkd"
    settings = GkdSettings

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(hidden=True)

    @property
    def on_policy_share(self) -> float:
        return self.own.on_policy

    def overlap_conflicts(self) -> dict[str, str]:
        if self.own.on_policy == 1:
            return {}
        return {"gkd.on_policy": "the step after a rollout may be one that needs none; set it to 1"}

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return GeneralisedJSD(FullVocabulary(loaded(teacher_head)), self.own.beta)


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor, beta: float) -> torch.Tensor:
    """The divergence above [N], in nats, of log-probabilities [N, M]."""
    if beta == 0:
        return kl(log_q, log_p)
    if beta == 1:
        return kl(log_p, log_q)
    log_p, log_q = floored(log_p), floored(log_q)
    log_m = (log_p + math.log1p(-beta)).logaddexp(log_q + math.log(beta))
    divided = log_q.exp() * (log_q - log_m) / (1 - beta) + log_p.exp() * (log_p - log_m) / beta
    return divided.sum(-1)


@dataclass(frozen=True)
class GeneralisedJSD:
    """view: FullVocabulary(teacher_head) or top_k_and_tail; beta: from 0, forward KL, to 1, reverse KL."""

    view: View
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta lies between 0 and 1, not at {self.beta}")

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V], on the student's rollouts or on given text; needs what the view needs."""
        student, teacher = self.view(logits, tokens)
        reverse = kl(student.detach(), teacher).sum()
        loss = jensen_shannon(student, teacher, self.beta).sum()
        return {"loss": loss, "reverse_kl": reverse, **diagnostics(logits.detach().log_softmax(-1), tokens)}
