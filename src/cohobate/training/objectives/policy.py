"""What follows a sampled token y: its log-probability, its importance weight, and the health of the policy."""

from __future__ import annotations

import torch

from cohobate.models.token_loss import Terms, Tokens
from cohobate.training.objectives.distributions import floored

# e^20 is far beyond any cap, and nothing that is computed with it overflows.
LOG_RATIO_BOUND = 20.0


def taken(logprobs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N] of the tokens `ids` [N] among those of all tokens [N, V]."""
    return logprobs.gather(-1, ids[:, None])[:, 0]


def ratio(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Probability ratio exp(new - old) [N], the exponent kept within +-20."""
    return (new - old).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()


def importance(new: torch.Tensor, old: torch.Tensor, cap: float) -> torch.Tensor:
    """The weight sg[min(exp(clip(new - old, -20, 20)), cap)] [N]: exactly 1 where the policies agree."""
    return ratio(new.detach(), old).clamp(max=cap)


def entropy(logprobs: torch.Tensor) -> torch.Tensor:
    """Entropy [N] in nats of log-probabilities [N, V]."""
    return -(logprobs.exp() * floored(logprobs)).sum(-1)


@torch.no_grad()
def diagnostics(student: torch.Tensor, tokens: Tokens, sampled: torch.Tensor | None = None) -> Terms:
    """Sums over tokens: the student's entropy and, of rollouts, how far the sampler is from the trainer.

    student: log-probabilities [N, V]; sampled: [N], the student's of the sampled tokens (those of `ids` by default).
    mismatch_k3 and mismatch_max compare sampler_logprobs with old_logprobs, or with the student where there are none;
    on the text of another (student_ids) there is nothing to compare.
    """
    terms = {"entropy": entropy(student).sum()}
    if tokens.sampler_logprobs is None or tokens.student_ids is not None:
        return terms
    own = taken(student, tokens.ids) if sampled is None else sampled
    difference = (own if tokens.old_logprobs is None else tokens.old_logprobs) - tokens.sampler_logprobs
    bounded = difference.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    # A maximum over no tokens is 0.
    largest = difference.abs().max() if len(difference) else difference.sum()
    return {**terms, "mismatch_k3": (bounded.expm1() - difference).sum(), "mismatch_max": largest}
