"""Judge reinforcement: REINFORCE with the judge's r in {+1, -1}, and a lock-in on what it rewarded.

L = -(1/N) sum_t [w_t A_t log p(y_t) + c_t log p(y_t)],  c_t = 2 where r > 0, else 0
A_t = r of the row, or r minus the mean of the others of its group;  w_t as in `sampled`

The classic policy answers with one token of ten and has neither baseline nor groups: A_t = r. (Williams 1992, "Simple
statistical gradient-following algorithms"; Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!".)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohobate.core.settings import Section, Weight
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective
from cohobate.training.objectives.policy_gradient import (
    GroupAdvantages,
    diagnostics,
    group_advantages,
    importance,
    token_logprobs,
)

if TYPE_CHECKING:
    import torch

    from cohobate.models.sequence import TrainingSequence
    from cohobate.training.types import ScoredRollout

LOCK_IN = 2.0
KEEP = 0.95
MARGIN = 0.05

# Rewards by prompt and sample; None: the judge gave none, and the row carries nothing.
Rewards = Sequence[Sequence[float | None]]
# A verdict as the judge gives it; without one a rollout is dropped.
_SIGNED = {1.0: 1.0, 0.0: -1.0}


class JudgeSettings(Section):
    """REINFORCE with the verdict, +1 or -1, as reward; triples.verifier = "judge" makes that a language model's."""

    leave_one_out: bool = True
    """Hold each reward against the mean of the others of its group."""
    lock_in: Weight = LOCK_IN
    """Weight of the cross-entropy on the rollouts that were rewarded."""


class Judge(OnPolicyObjective[JudgeSettings]):
    """+1 or -1 from the verifier."""

    name = "judge"
    settings = JudgeSettings

    @property
    def rewarded(self) -> bool:
        return True

    @property
    def compares_group(self) -> bool:
        return self.own.leave_one_out

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return JudgeReinforcement(self.config.importance_cap)

    def sequences(self, rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        rewards = [None if item.rollout.reward is None else _SIGNED[item.rollout.reward] for item in rollouts]
        groups = [rewards[at : at + self.config.group] for at in range(0, len(rewards), self.config.group)]
        advantages = judge_advantages(groups, self.own.leave_one_out).values.flatten()
        weights = lock_in_weights(groups, self.own.lock_in).flatten()
        return [
            row.with_features(
                advantages=advantage.expand(len(row.response)).clone(), weights=weight.expand(len(row.response)).clone()
            )
            for row, reward, advantage, weight in zip(
                super().sequences(rollouts), rewards, advantages, weights, strict=True
            )
            if reward is not None
        ]


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
        chosen = token_logprobs(student, tokens.ids)
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
    import torch

    return torch.tensor([[float("nan") if r is None else r for r in group] for group in rewards])
