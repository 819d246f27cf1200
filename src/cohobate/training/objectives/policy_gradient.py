"""Policy gradient, shared by several objectives: importance weights, advantages within a group, health of the policy.

y: a sampled token; p: the student now; mu: the policy that sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cohobate.models.token_loss import Terms, Tokens
from cohobate.training.objectives.distributions import floored

if TYPE_CHECKING:
    import torch

# e^20 is far beyond any cap, and nothing that is computed with it overflows.
LOG_RATIO_BOUND = 20.0
# Added to a group's standard deviation, as in TRL.
STD_FLOOR = 1e-4


def token_logprobs(logprobs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
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


def diagnostics(student: torch.Tensor, tokens: Tokens, sampled: torch.Tensor | None = None) -> Terms:
    """Sums over tokens: the student's entropy and, of rollouts, how far the sampler is from the trainer.

    student: log-probabilities [N, V]; sampled: [N], the student's of the sampled tokens (those of `ids` by default).
    mismatch_k3 and mismatch_max compare sampler_logprobs with old_logprobs, or with the student where there are none;
    on the text of another (student_ids) there is nothing to compare.
    """
    import torch

    with torch.no_grad():
        terms = {"entropy": entropy(student).sum()}
        if tokens.sampler_logprobs is None or tokens.student_ids is not None:
            return terms
        own = token_logprobs(student, tokens.ids) if sampled is None else sampled
        difference = (own if tokens.old_logprobs is None else tokens.old_logprobs) - tokens.sampler_logprobs
        bounded = difference.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
        # A maximum over no tokens is 0.
        largest = difference.abs().max() if len(difference) else difference.sum()
        return {**terms, "mismatch_k3": (bounded.expm1() - difference).sum(), "mismatch_max": largest}


@dataclass(frozen=True)
class GroupAdvantages:
    """values: [groups, n]; flat: how many groups teach nothing, all their rewards being equal."""

    values: torch.Tensor
    flat: int


def group_advantages(
    rewards: torch.Tensor, baseline: Literal["mean", "leave_one_out"] = "mean", by_std: bool = False
) -> GroupAdvantages:
    """Advantages of `rewards` [groups, n], where NaN is a sample without a reward: no part of the baseline, A = 0.

    leave_one_out: the baseline is the mean of the others, whose expected gradient is that of the reward itself (with
    `mean` it is (1 - 1/n) of it). by_std: divide by the standard deviation of the group, with n - 1, plus 1e-4.
    """
    import torch

    rewarded = ~rewards.isnan()
    count = rewarded.sum(1, keepdim=True)
    mean = rewards.nansum(1, keepdim=True) / count.clamp(min=1)
    values = torch.where(rewarded, rewards - mean, 0.0)
    others = (count - 1).clamp(min=1)
    std = (values.square().sum(1, keepdim=True) / others).sqrt()
    if baseline == "leave_one_out":
        values = values * count / others
    if by_std:
        values = values / (std + STD_FLOOR)
    # Compared, not subtracted: equal rewards may differ from their own mean by rounding.
    largest = rewards.nan_to_num(nan=-torch.inf).amax(1)
    flat = largest <= rewards.nan_to_num(nan=torch.inf).amin(1)
    return GroupAdvantages(values.masked_fill(flat[:, None], 0.0), int(flat.sum()))
