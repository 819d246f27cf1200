"""Judge reinforcement: REINFORCE with the judge's r in {+1, -1}, and a lock-in on what it rewarded.

L = -(1/N) sum_t [w_t A_t log p(y_t) + c_t log p(y_t)],  c_t = 2 where r > 0, else 0
A_t = r of the row, or r minus the mean of the others of its group;  w_t as in `opd`

The classic policy answers with one token of ten and has neither baseline nor groups: A_t = r. (Williams 1992, "Simple
statistical gradient-following algorithms"; Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!".)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from cohobate.models.token_loss import Terms, Tokens, required
from cohobate.training.objectives.grpo import GroupAdvantages, group_advantages
from cohobate.training.objectives.policy import diagnostics, importance, taken

LOCK_IN = 2.0
KEEP = 0.95
MARGIN = 0.05

# Rewards by prompt and sample; None: the judge gave none, and the row carries nothing.
Rewards = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class JudgeReinforcement:
    """importance_cap: C, the largest importance weight."""

    importance_cap: float = 2.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs advantages, weights (the lock-in c_t) and sampler_logprobs.

        locked_in: the cross-entropy of the rewarded tokens, as it enters the loss.
        """
        advantage = required(tokens.advantages, "advantages")
        lock_in = required(tokens.weights, "weights")
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        student = logits.log_softmax(-1)
        chosen = taken(student, tokens.ids)
        weight = importance(chosen, sampler, self.importance_cap)
        locked_in = -(lock_in * chosen).sum()
        return {
            "loss": locked_in - (weight * advantage * chosen).sum(),
            "locked_in": locked_in.detach(),
            **diagnostics(student, tokens, chosen.detach()),
        }


def judge_advantages(rewards: Rewards, leave_one_out: bool = True) -> GroupAdvantages:
    """A [groups, n] of each row: r minus the mean of the others of its group, or r itself; 0 without a reward."""
    table = _table(rewards)
    if leave_one_out:
        return group_advantages(table, "leave_one_out")
    return GroupAdvantages(table.nan_to_num(nan=0.0), 0)


def lock_in_weights(rewards: Rewards, weight: float = LOCK_IN) -> torch.Tensor:
    """The coefficient c [groups, n] of each row: `weight` where it was rewarded, 0 elsewhere."""
    return weight * (_table(rewards) > 0).float()


def running_reward(value: float, rewards: Iterable[float | None], keep: float = KEEP) -> float:
    """The running mean after `rewards` in their order: keep * old + (1 - keep) * r; rows without a reward are none."""
    for reward in rewards:
        if reward is not None:
            value = keep * value + (1 - keep) * reward
    return value


def improved(value: float, best: float, margin: float = MARGIN) -> bool:
    """Whether a running reward is enough above the best so far to save the policy."""
    return value > best + margin


def _table(rewards: Rewards) -> torch.Tensor:
    return torch.tensor([[float("nan") if r is None else r for r in group] for group in rewards])
