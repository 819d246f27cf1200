"""Ghost-response policy optimisation: raise the token of a better response, the ghost, over the student's own.

g_t = log p(y*_t | s_t) - log p(y_t | s_t)                    the reward, from the student's own logits
L = -(1/N) sum_t [w_t g_t + c H(p(. | s_t))],  w_t = sg[min(exp(clip(log p(y_t | s_t) - log mu(y_t), -20, 20)), C)]

y_t: the student's token; y*_t: the ghost's; mu: the probability with which y_t was sampled; H: entropy. The gradient
of g_t on the logits is e_y* - e_y: zero where they agree, and on average over y_t ~ p the gradient of the
cross-entropy towards y*_t. Against the teacher's argmax that is reverse KL without its entropy: the optimum is a point
mass, which is why there is a bonus c H, and why the entropy is a metric. The context s_t is one of two:

student's prefix  s_t = (x, y_<t): rows of the student's rollouts. `ghost_ids` are y*_t: what the teacher would say
                  next there (teacher_ghosts, top_k_ghosts).
ghost's prefix    s_t = (x, y*_<t): rows of a given response: the teacher's, a human's, or the student's own best of
                  several. `student_ids` are y_t, the token of the student's rollout at the same place (align), whose
                  own context was another one: w_t, from there to here, makes the expectation right up to the cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cohobate.models.token_loss import Head, Terms, Tokens, chunk_tokens, required
from cohobate.training.objectives.policy import diagnostics, entropy, importance, taken

NONE = -1


@dataclass(frozen=True)
class GhostPolicy:
    """importance_cap: C; entropy_bonus: c, in nats of reward for a nat of entropy."""

    importance_cap: float = 2.0
    entropy_bonus: float = 0.0

    def __call__(self, logits: torch.Tensor, tokens: Tokens) -> Terms:
        """Terms for `logits` [N, V]; needs ghost_ids or student_ids, and sampler_logprobs, of y.

        Tokens without a counterpart (-1) carry nothing. ghosts counts the others; agreement those with y = y*.
        """
        sampler = required(tokens.sampler_logprobs, "sampler_logprobs")
        if tokens.student_ids is None:
            own, ghost = tokens.ids, required(tokens.ghost_ids, "ghost_ids or student_ids")
        else:
            own, ghost = tokens.student_ids, tokens.ids
        present = (own >= 0) & (ghost >= 0)
        student = logits.log_softmax(-1)
        chosen = taken(student, own.clamp(min=0))
        reward = taken(student, ghost.clamp(min=0)) - chosen
        gain = importance(chosen, sampler, self.importance_cap) * reward
        if self.entropy_bonus:
            gain = gain + self.entropy_bonus * entropy(student)
        return {
            "loss": -gain[present].sum(),
            "reward": reward.detach()[present].sum(),
            "ghosts": present.sum().float(),
            "agreement": (present & (own == ghost)).sum().float(),
            **diagnostics(student, tokens, chosen.detach()),
        }


@torch.no_grad()
def teacher_ghosts(teacher_head: Head, hidden: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """ghost_ids [N] on the student's prefixes: argmax of q, from the teacher's hidden states [N, d].

    vocabulary: the tokens that both models share; the rows of the head behind them are padding.
    """
    parts = hidden.split(chunk_tokens(vocabulary))
    return torch.cat([teacher_head(part)[:, :vocabulary].argmax(-1) for part in parts])


def top_k_ghosts(top_ids: torch.Tensor, top_logprobs: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """ghost_ids [N] on the student's prefixes: the most probable of the teacher's top-k [N, K]; -1 without any."""
    shared = top_logprobs.masked_fill(top_ids >= vocabulary, -torch.inf)
    best, place = shared.max(-1, keepdim=True)
    return top_ids.gather(-1, place).masked_fill(best.isneginf(), NONE)[:, 0]


def align(
    response: Sequence[int], sampler_logprobs: torch.Tensor, ghost: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(student_ids, sampler_logprobs), both [len(ghost)], of a row on the ghost's prefix.

    Place by place from the start; where the student's response [T] has ended, there is no token of it.
    """
    both = min(len(response), len(ghost))
    ids = torch.full((len(ghost),), NONE)
    ids[:both] = torch.tensor(list(response[:both]), dtype=torch.long)
    logprobs = sampler_logprobs.new_zeros(len(ghost))
    logprobs[:both] = sampler_logprobs[:both]
    return ids, logprobs
