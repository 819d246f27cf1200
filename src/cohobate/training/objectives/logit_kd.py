"""Logit distillation on given text: the teacher's distribution beside its token.

L = (1/N) sum_t [alpha tau^2 KL(q_tau || p_tau) + (1 - alpha) (-log p(y_t))]

p: the student; q: the teacher; p_tau, q_tau: both at temperature tau, whose square keeps the size of the gradient
(Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2). Of top-k and a tail, the K + 1 buckets
are tempered, since the tokens inside the teacher's tail are not known. KL and the cross-entropy -sum q log p differ by
the teacher's entropy, which has no gradient; a hard label is the case S = {y}, q = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cohobate.models.token_loss import Terms, Tokens
from cohobate.training.objectives.distributions import View, kl, tempered
from cohobate.training.objectives.policy import entropy, taken


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
        hard = -taken(logprobs, tokens.ids).sum()
        return {
            "loss": self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard,
            "forward_kl": soft.detach(),
            "cross_entropy": hard.detach(),
            "entropy": entropy(logprobs.detach()).sum(),
        }
