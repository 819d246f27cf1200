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
from typing import Literal

import torch

from cohobate.models.token_loss import Terms, Tokens, required
from cohobate.training.objectives.distributions import floored
from cohobate.training.objectives.policy import diagnostics, importance, ratio, taken

# Added to a group's standard deviation, as in TRL.
STD_FLOOR = 1e-4


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
        chosen = taken(student, tokens.ids)
        old = chosen.detach() if tokens.old_logprobs is None else tokens.old_logprobs
        terms = {}
        if self.alpha:
            gap = (floored(required(tokens.teacher_logprobs, "teacher_logprobs")) - chosen).detach()
            advantage = advantage + self.alpha * gap.clamp(-self.teacher_clip, self.teacher_clip)
            terms["reverse_kl"] = -gap.sum()
        rho = ratio(chosen, old)
        low, high = 1 - self.clip_low, 1 + self.clip_high
        gain = torch.minimum(rho * advantage, rho.clamp(low, high) * advantage)
        gain = gain * importance(old, sampler, self.importance_cap)
        return {
            "loss": -(gain if tokens.weights is None else gain * tokens.weights).sum(),
            "clipped_low": ((rho < low) & (advantage < 0)).sum().float(),
            "clipped_high": ((rho > high) & (advantage > 0)).sum().float(),
            **terms,
            **diagnostics(student, tokens, chosen.detach()),
        }


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
    known = ~rewards.isnan()
    count = known.sum(1, keepdim=True)
    mean = rewards.nansum(1, keepdim=True) / count.clamp(min=1)
    values = torch.where(known, rewards - mean, 0.0)
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


def length_weights(lengths: Sequence[int], constant: int | None = None) -> list[torch.Tensor]:
    """`weights` [length] of each response of a step that turn its mean over tokens into a mean over responses.

    Of each response the mean over its tokens; or the sum over its tokens, divided by `constant` (the largest length
    there can be) whatever its length (Liu et al. 2025). An empty response is one of the responses, with loss 0.
    """
    share = sum(lengths) / max(1, len(lengths))
    return [torch.full((length,), share / (constant or max(1, length))) for length in lengths]
