"""On-policy distillation: the student's own rollouts, scored by the teacher with reverse KL.

exact:    L = (1/N) sum_t sum_v p_v (log p_v - log q_v)
sampled:  L = -(1/N) sum_t w_t A_t log p(y_t),  A_t = sg[log q(y_t) - log p(y_t)]
          w_t = sg[min(exp(clip(log p(y_t) - log mu(y_t), -20, 20)), C)]
baseline: A_t + b_t, b_t = the reverse KL of the teacher's top-k and its tail: less variance, the same expectation
discount: A_t = sum_k discount^k [log q - log mu](y_t+k), from the rollout

p: the student now; q: the teacher; mu: the policy that sampled. Given the visited states, the expected gradient of
`sampled` is that of `exact`: the score function's part of the KL gradient has expectation zero. With a discount of 1
it is, on policy, the gradient of the KL between whole responses.
(Agarwal et al. 2024, "On-Policy Distillation of Language Models"; Lu et al. 2025, "On-Policy Distillation".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cohobate.models.token_loss import Head, Terms, Tokens, required
from cohobate.training.objectives.distributions import FullVocabulary, floored, kl, top_k_and_tail
from cohobate.training.objectives.policy import LOG_RATIO_BOUND, diagnostics, importance, taken


@dataclass(frozen=True)
class ExactReverseKL:
    """Reverse KL over the whole vocabulary, with the teacher's logits from its hidden states."""

    teacher_head: Head

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_hidden and, for the mismatch, sampler_logprobs."""
        required(tokens.sampler_logprobs, "sampler_logprobs")
        student, teacher = FullVocabulary(self.teacher_head)(logits, tokens)
        loss = kl(student, teacher).sum()
        # The sampler's policy has the padding rows of the student, if there are any.
        whole = student if student.shape == logits.shape else logits.log_softmax(-1)
        return {"loss": loss, "reverse_kl": loss.detach(), **diagnostics(whole, tokens)}


@dataclass(frozen=True)
class SampledReverseKL:
    """Importance-weighted policy gradient on the sampled tokens; needs only their teacher log-probs.

    importance_cap: C, the largest weight; advantage_clip: bound of |A| in nats, or None.
    control_variate: add b_t; needs teacher_top_ids and teacher_top_logprobs.
    precomputed: take A from `advantages`, which discounted_advantages computes where the responses are whole.
    """

    importance_cap: float = 2.0
    advantage_clip: float | None = 10.0
    control_variate: bool = False
    precomputed: bool = False

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_logprobs and sampler_logprobs."""
        teacher = floored(required(tokens.teacher_logprobs, "teacher_logprobs"))
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        student = logits.log_softmax(-1)
        chosen = taken(student, tokens.ids)
        gap = (teacher - chosen).detach()
        advantage = required(tokens.advantages, "advantages") if self.precomputed else gap
        if self.control_variate:
            advantage = advantage + kl(*top_k_and_tail(logits.detach(), tokens))
        bound = float("inf") if self.advantage_clip is None else self.advantage_clip
        weight = importance(chosen, sampler, self.importance_cap)
        return {
            "loss": -(weight * advantage.clamp(-bound, bound) * chosen).sum(),
            "clipped": (advantage.abs() > bound).sum().float(),
            **estimates(gap),
            **diagnostics(student, tokens, chosen.detach()),
        }


def estimates(gap: torch.Tensor) -> Terms:
    """Three estimates of KL(p || q) from tokens sampled from p, summed; gap: [N], log q(y) - log p(y).

    reverse_kl (k1) = -gap; reverse_kl_k2 = gap^2 / 2; reverse_kl_k3 = e^gap - 1 - gap, of which the last is never
    negative and has the least variance. They are metrics: as losses k1 has no expected gradient, and k3 that of the
    forward KL. (Schulman 2020, "Approximating KL Divergence".)
    """
    bounded = gap.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return {
        "reverse_kl": -gap.sum(),
        "reverse_kl_k2": (gap**2 / 2).sum(),
        "reverse_kl_k3": (bounded.expm1() - gap).sum(),
    }


def discounted_advantages(
    teacher: Sequence[torch.Tensor], sampler: Sequence[torch.Tensor], discount: float
) -> list[torch.Tensor]:
    """A_t = r_t + discount * A_t+1 for each response, r_t = log q(y_t) - log mu(y_t); log-probabilities [T] of each."""
    found = []
    for scored, sampled in zip(teacher, sampler, strict=True):
        rewards, total, returns = (floored(scored) - sampled).tolist(), 0.0, []
        for reward in reversed(rewards):
            total = reward + discount * total
            returns.append(total)
        found.append(torch.tensor(returns[::-1], dtype=sampled.dtype, device=sampled.device))
    return found
