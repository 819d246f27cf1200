"""Sampled reverse KL: policy gradient on the tokens of the student's own rollouts, scored by the teacher.

sampled:  L = -(1/N) sum_t w_t A_t log p(y_t),  A_t = sg[log q(y_t) - log p(y_t)]
          w_t = sg[min(exp(clip(log p(y_t) - log mu(y_t), -20, 20)), C)]
baseline: A_t + b_t, b_t = the reverse KL of the teacher's top-k and its tail: less variance, the same expectation
discount: A_t = sum_k discount^k [log q - log mu](y_t+k), from the rollout

p: the student now; q: the teacher; mu: the policy that sampled. Given the visited states, the expected gradient is that
of the exact reverse KL: the score function's part of the KL gradient has expectation zero. With a discount of 1
it is, on policy, the gradient of the KL between whole responses.
(Agarwal et al. 2024, "On-Policy Distillation of Language Models"; Lu et al. 2025, "On-Policy Distillation".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from cohobate.core.settings import Positive, Section, Share
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds
from cohobate.training.objectives.distributions import floored, kl, top_k_and_tail
from cohobate.training.objectives.policy_gradient import LOG_RATIO_BOUND, diagnostics, importance, token_logprobs

if TYPE_CHECKING:
    import torch

    from cohobate.models.sequence import TrainingSequence
    from cohobate.training.types import ScoredRollout


class SampledSettings(Section):
    """Policy gradient on the sampled tokens."""

    discount: Share = 0.0
    """How much of the reward of later tokens counts for a token."""
    control_variate: Positive | None = None
    """Less variance by the KL on the teacher's k likeliest tokens; None: none."""
    spans: bool = False
    """For a teacher in this process with another tokenizer: it scores the text, and each token's reward is that of the
    smallest span of text at whose ends both tokenizers have a boundary."""

    @model_validator(mode="after")
    def _one_reward(self) -> Self:
        if self.spans and (self.discount or self.control_variate):
            raise ValueError(
                "spans has neither discount nor control_variate, which need the teacher's tokens; drop them"
            )
        return self


class Sampled(OnPolicyObjective[SampledSettings]):
    """Policy gradient on the sampled tokens."""

    name = "sampled"
    settings = SampledSettings
    across_tokenizers = "opd.objective = 'sampled' with opd.sampled.spans = true"

    @property
    def needs(self) -> TeacherNeeds:
        return TeacherNeeds(top_k=self.own.control_variate, spans=self.own.spans)

    def overlap_conflicts(self) -> dict[str, str]:
        conflicts = {}
        if self.own.discount:
            conflicts["sampled.discount"] = (
                "the importance weight of a token does not correct the later ones that its reward counts; set it to 0"
            )
        if self.own.spans:
            conflicts["sampled.spans"] = (
                "the reward of a span is not computed again for the student that learns; set it to false"
            )
        return conflicts

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return SampledReverseKL(
            self.config.importance_cap,
            self.config.advantage_clip,
            control_variate=self.own.control_variate is not None,
            precomputed=self.own.discount > 0 or self.own.spans,
        )

    def sequences(self, rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        if self.own.spans:
            return [_by_spans(rollout) for rollout in rollouts]
        rows = super().sequences(rollouts)
        if not self.own.discount:
            return rows
        names = ("teacher_logprobs", "sampler_logprobs")
        teacher, sampler = ([row.features[name] for row in rows] for name in names)
        returns = discounted_advantages(teacher, sampler, self.own.discount)
        return [row.with_features(advantages=values) for row, values in zip(rows, returns, strict=True)]


def _by_spans(scored: ScoredRollout) -> TrainingSequence:
    """Each token with the advantage of its span, log q(span) - log mu(span), and an equal share of it as a metric."""
    import torch

    from cohobate.training.scoring.cross_tokenizer import shares, sums

    assert scored.teacher is not None and scored.teacher.spans is not None
    row, spans = scored.sequence(), scored.teacher.spans
    sampler = row.features["sampler_logprobs"]
    gaps = torch.where(spans < 0, 0.0, row.features["teacher_logprobs"] - sampler)
    advantages = sums(gaps, spans, spans)
    return row.with_features(advantages=advantages, teacher_logprobs=sampler + shares(advantages, spans))


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
        chosen = token_logprobs(student, tokens.ids)
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
    import torch

    advantages = []
    for scored, sampled in zip(teacher, sampler, strict=True):
        rewards, total, returns = (floored(scored) - sampled).tolist(), 0.0, []
        for reward in reversed(rewards):
            total = reward + discount * total
            returns.append(total)
        advantages.append(torch.tensor(returns[::-1], dtype=sampled.dtype, device=sampled.device))
    return advantages
