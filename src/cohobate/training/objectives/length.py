"""A price on the length of rollouts, added to any objective that learns them.

c_i = price (|y_i| - target)+ / target                what rollout i loses; without a target price |y_i| / max_tokens
A_i = mean of c over the others of the group - c_i    the same as an advantage
L   = L_objective - (1/N) sum_t w_t A_i log p(y_t),  w_t = sg[min(exp(clip(log p(y_t) - log mu(y_t), -20, 20)), C)]

p: the student now; mu: the policy that sampled. The baseline of the others leaves the expected gradient that of the
mean price (Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"). It is added after the rewards of a
group were compared, so that a group of which all are right, or all are wrong, becomes shorter too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohobate.models.token_loss import Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.policy_gradient import group_advantages, importance, token_logprobs

if TYPE_CHECKING:
    import torch

    from cohobate.config import Opd


def prices(config: Opd, lengths: Sequence[int]) -> list[float]:
    """The price of rollouts of these `lengths`, in units of reward; 0 where the recipe sets none."""
    if config.length is None:
        return [0.0] * len(lengths)
    free, unit = config.length.target or 0, config.length.target or config.max_tokens
    return [config.length.price * max(0, length - free) / unit for length in lengths]


def length_advantages(config: Opd, lengths: Sequence[int]) -> list[float]:
    """A of each rollout of a step, those of a group side by side; lengths in tokens."""
    import torch

    rewards = -torch.tensor(prices(config, lengths), dtype=torch.float64).reshape(-1, config.group)
    advantages: list[float] = group_advantages(rewards, "leave_one_out").values.flatten().tolist()
    return advantages


@dataclass(frozen=True)
class LengthPriced:
    """`objective` with the price on length; importance_cap: C."""

    objective: TokenLoss
    importance_cap: float = 2.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """The terms of `objective`; needs what it needs, and sampler_logprobs where there are length_advantages."""
        terms = self.objective(logits, tokens)
        if tokens.length_advantages is None:  # not a rollout
            return terms
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        chosen = token_logprobs(logits.log_softmax(-1), tokens.ids)
        weight = importance(chosen, sampler, self.importance_cap)
        return {**terms, "loss": terms["loss"] - (weight * tokens.length_advantages * chosen).sum()}
