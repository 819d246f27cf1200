"""On-policy distillation: the student's own rollouts, scored by the teacher with reverse KL.

exact:    L = (1/N) sum_t sum_v p_v (log p_v - log q_v)
sampled:  A_t = sg[log q(y_t) - log p(y_t)],  L = -(1/N) sum_t w_t A_t log p(y_t)
          w_t = sg[min(exp(clip(log p(y_t) - log mu(y_t), -20, 20)), C)]

p: the student now; q: the teacher; mu: the policy that sampled. Given the visited states, the expected gradient of
`sampled` is that of `exact`: the score function's part of the KL gradient has expectation zero.
(Agarwal et al. 2024, "On-Policy Distillation of Language Models"; Lu et al. 2025, "On-Policy Distillation".)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cohobate.objectives.base import Head, Terms, Tokens, required


@dataclass(frozen=True)
class ExactReverseKL:
    """Reverse KL over the whole vocabulary, with the teacher's logits from its hidden states."""

    teacher_head: Head

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_hidden and, for the mismatch, sampler_logprobs."""
        hidden = required(tokens.teacher_hidden, "teacher_hidden")
        with torch.no_grad():
            teacher_logits = self.teacher_head(hidden).float()
        # Either model may have padding rows beyond the tokenizer that both share.
        shared = min(logits.shape[-1], teacher_logits.shape[-1])
        student = logits[:, :shared].log_softmax(-1)
        kl = (student.exp() * (student - teacher_logits[:, :shared].log_softmax(-1))).sum(-1)
        diagnostics = _diagnostics(logits.log_softmax(-1), tokens)
        return {"loss": kl.sum(), "reverse_kl": kl.detach().sum(), **diagnostics}


@dataclass(frozen=True)
class SampledReverseKL:
    """Importance-weighted policy gradient on the sampled tokens; needs only their teacher log-probs.

    importance_cap: C, the largest weight; advantage_clip: bound of |A| in nats, or None.
    """

    importance_cap: float = 2.0
    advantage_clip: float | None = 10.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs teacher_logprobs and sampler_logprobs."""
        teacher = required(tokens.teacher_logprobs, "teacher_logprobs")
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        student = logits.log_softmax(-1)
        chosen = student.gather(-1, tokens.ids[:, None])[:, 0]
        advantage = (teacher - chosen).detach()
        clipped = torch.zeros_like(advantage, dtype=torch.bool)
        if self.advantage_clip is not None:
            clipped = advantage.abs() > self.advantage_clip
            advantage = advantage.clamp(-self.advantage_clip, self.advantage_clip)
        weight = (chosen - sampler).detach().clamp(-20, 20).exp().clamp(max=self.importance_cap)
        return {
            "loss": -(weight * advantage * chosen).sum(),
            "reverse_kl": (chosen - teacher).detach().sum(),
            "clipped": clipped.sum().float(),
            **_diagnostics(student, tokens),
        }


@torch.no_grad()
def _diagnostics(student: torch.Tensor, tokens: Tokens) -> Terms:
    """Entropy of the student, and how far the sampler's log-probs lie from the trainer's (k3 and largest)."""
    sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
    difference = student.gather(-1, tokens.ids[:, None])[:, 0] - sampler
    return {
        "entropy": -(student.exp() * student).sum(-1).sum(),
        "mismatch_k3": (difference.expm1() - difference).sum(),
        "mismatch_max": difference.abs().max(),
    }
