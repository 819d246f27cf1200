"""Group-relative policy optimisation: the samples of one prompt are each other's baseline.

A_i = r_i - mean(r of the group);  A_t = A_i + alpha sg[log q(y_t) - log p(y_t)] where a teacher is mixed in
L = -(1/N) sum_t v_t min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t),  rho_t = p(y_t) / p_old(y_t)
v_t = sg[min(exp(clip(log p_old(y_t) - log mu(y_t), -20, 20)), C)]

p: the student now; p_old: the trainer's model before the first update on the batch; mu: the engine that sampled; q: a
teacher. N counts the step's tokens, so that no response is divided by its own length. (Shao et al. 2024,
"DeepSeekMath"; Liu et al. 2025, "Understanding R1-Zero-Like Training", for neither std nor length; Yu et al. 2025,
"DAPO", for high > low; Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training", for
v.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cohobate.core.settings import Section, Weight
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds
from cohobate.training.objectives.distributions import floored
from cohobate.training.objectives.policy_gradient import (
    diagnostics,
    group_advantages,
    importance,
    ratio,
    token_logprobs,
)

if TYPE_CHECKING:
    import torch

    from cohobate.models.sequence import TrainingSequence
    from cohobate.training.types import ScoredRollout


class GrpoSettings(Section):
    """Group-relative policy optimisation with the verdict, 1 or 0, as reward."""

    clip_low: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """How far the probability ratio may fall below 1."""
    clip_high: Weight = 0.28
    """How far it may rise above 1."""
    baseline: Literal["mean", "leave_one_out"] = "mean"
    """The baseline of a reward: the mean of the group, or that of the others."""
    by_std: bool = False
    """Divide the advantages by the group's standard deviation."""
    lengths: Literal["tokens", "responses", "constant"] = "tokens"
    """tokens: each token of a step counts the same. responses: each response. constant: a response's sum, divided by
    max_tokens whatever its length."""
    teacher: Weight = 0.0
    """Weight of the teacher's log q - log p, added to the advantage."""


class Grpo(OnPolicyObjective[GrpoSettings]):
    """Verifiable reward, without or with the teacher."""

    name = "grpo"
    settings = GrpoSettings

    @property
    def needs(self) -> TeacherNeeds | None:
        return TeacherNeeds() if self.own.teacher else None

    @property
    def rewarded(self) -> bool:
        return True

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return GroupRelative(self.own.clip_low, self.own.clip_high, self.config.importance_cap, self.own.teacher)

    def sequences(self, rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        import torch

        rewards = [float("nan") if item.rollout.reward is None else item.rollout.reward for item in rollouts]
        groups = torch.tensor(rewards).view(-1, self.config.group)
        advantages = group_advantages(groups, self.own.baseline, self.own.by_std).values.flatten()
        rows = super().sequences(rollouts)
        lengths = [len(row.response) for row in rows]
        weights = length_weights(lengths, self.config.max_tokens if self.own.lengths == "constant" else None)
        return [self._sequence(*each) for each in zip(rows, advantages, weights, strict=True)]

    def _sequence(self, row: TrainingSequence, advantage: torch.Tensor, weights: torch.Tensor) -> TrainingSequence:
        features = {"advantages": advantage.expand(len(row.response)).clone()}
        if self.config.updates > 1:  # the sampler is the trainer's model, so its log-probabilities are the old ones
            features["old_logprobs"] = row.features["sampler_logprobs"]
        if self.own.lengths != "tokens":
            features["weights"] = weights
        return row.with_features(**features)


@dataclass(frozen=True)
class GroupRelative:
    """clip_low, clip_high: how far the ratio may fall and rise; importance_cap: C; alpha: the share of the teacher.

    teacher_clip: bound of |log q - log p| in nats.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    importance_cap: float = 2.0
    alpha: float = 0.0
    teacher_clip: float = 10.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs advantages, sampler_logprobs and, with alpha, teacher_logprobs.

        Without old_logprobs the batch is taken to be used once: p_old = sg[p]. `weights`, where given, multiply each
        token: see length_weights. clipped_low and clipped_high count the tokens that have no gradient.
        """
        advantage = required(tokens.advantages, "advantages")
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        student = logits.log_softmax(-1)
        chosen = token_logprobs(student, tokens.ids)
        old = chosen.detach() if tokens.old_logprobs is None else tokens.old_logprobs
        terms = {}
        if self.alpha:
            gap = (floored(required(tokens.teacher_logprobs, "teacher_logprobs")) - chosen).detach()
            advantage = advantage + self.alpha * gap.clamp(-self.teacher_clip, self.teacher_clip)
            terms["reverse_kl"] = -gap.sum()
        rho = ratio(chosen, old)
        low, high = 1 - self.clip_low, 1 + self.clip_high
        gain = (rho * advantage).minimum(rho.clamp(low, high) * advantage)
        gain = gain * importance(old, sampler, self.importance_cap)
        return {
            "loss": -(gain if tokens.weights is None else gain * tokens.weights).sum(),
            "clipped_low": ((rho < low) & (advantage < 0)).sum().float(),
            "clipped_high": ((rho > high) & (advantage > 0)).sum().float(),
            **terms,
            **diagnostics(student, tokens, chosen.detach()),
        }


def length_weights(lengths: Sequence[int], constant: int | None = None) -> list[torch.Tensor]:
    """`weights` [length] of each response of a step that turn its mean over tokens into a mean over responses.

    Of each response the mean over its tokens; or the sum over its tokens, divided by `constant` (the largest length
    there can be) whatever its length (Liu et al. 2025). An empty response is one of the responses, with loss 0.
    """
    import torch

    share = sum(lengths) / max(1, len(lengths))
    return [torch.full((length,), share / (constant or max(1, length))) for length in lengths]
