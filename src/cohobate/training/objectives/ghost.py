"""Ghost-response policy optimisation: raise the token of a better response, the ghost, over the student's own.

g_t = log p(y*_t | s_t) - log p(y_t | s_t)                    the reward, from the student's own logits
L = -(1/N) sum_t [w_t g_t + c H(p(. | s_t))],  w_t = sg[min(exp(clip(log p(y_t | s_t) - log mu(y_t), -20, 20)), C)]

y_t: the student's token; y*_t: the ghost's; mu: the probability with which y_t was sampled; H: entropy. The gradient
of g_t on the logits is e_y* - e_y: zero where they agree, and on average over y_t ~ p the gradient of the
cross-entropy towards y*_t. Against the teacher's argmax that is reverse KL without its entropy: the optimum is a point
mass, which is why there is a bonus c H, and why the entropy is a metric. The context s_t is one of two:

student's prefix  s_t = (x, y_<t): rows of the student's rollouts. `ghost_ids` are y*_t: the teacher's most probable
                  token there.
ghost's prefix    s_t = (x, y*_<t): rows of a given response: the teacher's, a human's, or the student's own best of
                  several. `student_ids` are y_t, the token of the student's rollout at the same place (align), whose
                  own context was another one: w_t, from there to here, makes the expectation right up to the cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cohobate.core.settings import Section, Weight
from cohobate.models.token_loss import Head, Terms, TokenLoss, Tokens, required
from cohobate.training.objectives.base import OnPolicyObjective, TeacherNeeds
from cohobate.training.objectives.policy_gradient import diagnostics, entropy, importance, token_logprobs

if TYPE_CHECKING:
    import torch

    from cohobate.models.sequence import TrainingSequence
    from cohobate.training.types import Rollout, ScoredRollout

NONE = -1


class GhostSettings(Section):
    """Ghost-response policy optimisation."""

    source: Literal["teacher", "own", "triples", "gold"] = "teacher"
    """teacher: the teacher's next token after the student's own prefix. own: the student's shortest right answer of
    the group, for its wrong ones. triples: the teacher's response, on the questions of the triples. gold: the
    response that somebody wrote (questions.columns.gold_response), on the fresh questions that have one."""
    entropy_bonus: Weight = 0.0
    """In nats of reward for a nat of entropy."""


class Ghost(OnPolicyObjective[GhostSettings]):
    """The tokens of a better response."""

    name = "ghost"
    settings = GhostSettings

    @property
    def needs(self) -> TeacherNeeds | None:
        return TeacherNeeds(ghosts=True) if self.own.source == "teacher" else None

    @property
    def rewarded(self) -> bool:
        return self.own.source == "own"

    @property
    def references(self) -> Literal["triples", "gold"] | None:
        return self.own.source if self.own.source in ("triples", "gold") else None

    @property
    def prices_length(self) -> bool:
        return self.own.source == "teacher"

    def loss(self, teacher_head: Head | None) -> TokenLoss:
        return GhostPolicy(self.config.importance_cap, self.own.entropy_bonus)

    def sequences(self, rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        if self.own.source == "teacher":
            return super().sequences(rollouts)
        responses = [item.rollout for item in rollouts]
        if self.own.source == "own":
            groups = (responses[at : at + self.config.group] for at in range(0, len(responses), self.config.group))
            return [row for group in groups for row in _towards_best(group)]
        return [_on_ghost(rollout, rollout.ghost_ids or ()) for rollout in responses]


def _towards_best(group: Sequence[Rollout]) -> list[TrainingSequence]:
    """The wrong rollouts of a group, each beside the shortest right one; none where there is none."""
    right = [rollout for rollout in group if rollout.reward == 1]
    if not right:
        return []
    best = min(right, key=lambda rollout: (len(rollout.response_ids), rollout.row))
    return [_on_ghost(rollout, best.response_ids) for rollout in group if rollout.reward == 0]


def _on_ghost(rollout: Rollout, ghost: Sequence[int]) -> TrainingSequence:
    """A sequence on the ghost's prefix, with the student's token of the same place as a feature."""
    import torch

    from cohobate.models.sequence import TrainingSequence

    ids, logprobs = align(rollout.response_ids, torch.tensor(rollout.sampler_logprobs), ghost)
    features = {"student_ids": ids, "sampler_logprobs": logprobs}
    return TrainingSequence([*rollout.prompt_ids, *ghost], len(rollout.prompt_ids), features)


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
        chosen = token_logprobs(student, own.clamp(min=0))
        reward = token_logprobs(student, ghost.clamp(min=0)) - chosen
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


def align(
    response: Sequence[int], sampler_logprobs: torch.Tensor, ghost: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(student_ids, sampler_logprobs), both [len(ghost)], of a row on the ghost's prefix.

    Place by place from the start; where the student's response [T] has ended, there is no token of it.
    """
    import torch

    both = min(len(response), len(ghost))
    ids = torch.full((len(ghost),), NONE)
    ids[:both] = torch.tensor(list(response[:both]), dtype=torch.long)
    logprobs = sampler_logprobs.new_zeros(len(ghost))
    logprobs[:both] = sampler_logprobs[:both]
    return ids, logprobs
