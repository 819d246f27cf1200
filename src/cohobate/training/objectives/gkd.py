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

import torch

from cohobate.models.token_loss import Terms, Tokens
from cohobate.training.objectives.distributions import View, floored, kl
from cohobate.training.objectives.policy import diagnostics


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor, beta: float) -> torch.Tensor:
    """The divergence above [N], in nats, of log-probabilities [N, M]."""
    if beta == 0:
        return kl(log_q, log_p)
    if beta == 1:
        return kl(log_p, log_q)
    log_p, log_q = floored(log_p), floored(log_q)
    log_m = torch.logaddexp(log_p + math.log1p(-beta), log_q + math.log(beta))
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
        with torch.no_grad():
            reverse = kl(student, teacher).sum()
        loss = jensen_shannon(student, teacher, self.beta).sum()
        return {"loss": loss, "reverse_kl": reverse, **diagnostics(logits.detach().log_softmax(-1), tokens)}
