"""The methods of on-policy training: which objective, what it needs to know, and how rollouts become its facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from cohobate.config import Opd
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Head, Objective
from cohobate.training.objectives.distributions import FullVocabulary
from cohobate.training.objectives.ghost import GhostPolicy, align
from cohobate.training.objectives.gkd import GeneralisedJSD
from cohobate.training.objectives.grpo import GroupRelative, group_advantages, length_weights
from cohobate.training.objectives.judge import JudgeReinforcement, judge_advantages, lock_in_weights
from cohobate.training.objectives.opd import ExactReverseKL, SampledReverseKL, discounted_advantages
from cohobate.training.objectives.topk import TopKKL
from cohobate.training.scoring.base import TeacherNeeds
from cohobate.training.scoring.cross_tokenizer import shares, sums
from cohobate.training.types import Rollout, ScoredRollout

# From all rollouts of a batch (in order, a group's beside each other) to the sequences that are learnt. The rollouts of
# other processes have only the logged part of the teacher's scores.
Learn = Callable[[Sequence[ScoredRollout]], list[TrainingSequence]]


@dataclass(frozen=True)
class Method:
    """How a step's rollouts are learnt from.

    needs: of the teacher, None where it is not asked; rewarded: whether a verifier judges each rollout.
    """

    objective: Objective
    needs: TeacherNeeds | None
    learn: Learn
    rewarded: bool = False


def method(config: Opd, teacher_head: Head | None) -> Method:
    """The method of `config.objective`; teacher_head gives the teacher's logits from its hidden states."""
    return _METHODS[config.objective](config, teacher_head)


def _exact(config: Opd, head: Head | None) -> Method:
    return Method(ExactReverseKL(_given(head)), TeacherNeeds(hidden=True), _as_sampled)


def _sampled(config: Opd, head: Head | None) -> Method:
    own = config.sampled
    objective = SampledReverseKL(
        config.importance_cap, config.advantage_clip, own.control_variate is not None, own.discount > 0 or own.spans
    )
    if own.spans:
        return Method(objective, TeacherNeeds(), _by_spans)

    def learn(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        rows = _as_sampled(rollouts)
        names = ("teacher_logprobs", "sampler_logprobs")
        teacher, sampler = ([row.features[name] for row in rows] for name in names)
        returns = discounted_advantages(teacher, sampler, own.discount)
        return [row.with_features(advantages=values) for row, values in zip(rows, returns, strict=True)]

    return Method(objective, TeacherNeeds(top_k=own.control_variate), learn if own.discount else _as_sampled)


def _by_spans(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
    """Each token has the advantage of its whole span, log q(span) - log mu(span), and an equal share of it to show."""
    rows = []
    for row, scored in zip(_as_sampled(rollouts), rollouts, strict=True):
        assert scored.teacher is not None and scored.teacher.spans is not None
        spans, sampler = scored.teacher.spans, row.features["sampler_logprobs"]
        gaps = torch.where(spans < 0, 0.0, row.features["teacher_logprobs"] - sampler)
        advantages = sums(gaps, spans, spans)
        rows.append(row.with_features(advantages=advantages, teacher_logprobs=sampler + shares(advantages, spans)))
    return rows


def _topk(config: Opd, head: Head | None) -> Method:
    return Method(TopKKL(config.topk.direction), TeacherNeeds(top_k=config.topk.k), _as_sampled)


def _gkd(config: Opd, head: Head | None) -> Method:
    return Method(GeneralisedJSD(FullVocabulary(_given(head)), config.gkd.beta), TeacherNeeds(hidden=True), _as_sampled)


def _grpo(config: Opd, head: Head | None) -> Method:
    own = config.grpo
    objective = GroupRelative(own.clip_low, own.clip_high, config.importance_cap, own.teacher)

    def learn(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        rows = _as_sampled(rollouts)
        rewards = torch.tensor([_number(scored.rollout.reward) for scored in rollouts]).view(-1, config.group)
        advantages = group_advantages(rewards, own.baseline, own.by_std).values.flatten()
        lengths = [len(row.response) for row in rows]
        weights = length_weights(lengths, config.max_tokens if own.lengths == "constant" else None)
        learnt = []
        for i, row in enumerate(rows):
            features = {"advantages": advantages[i].expand(lengths[i]).clone()}
            if config.updates > 1:  # the sampler is the trainer's model, so its log-probabilities are the old ones
                features["old_logprobs"] = row.features["sampler_logprobs"]
            if own.lengths != "tokens":
                features["weights"] = weights[i]
            learnt.append(row.with_features(**features))
        return learnt

    return Method(objective, TeacherNeeds() if own.teacher else None, learn, rewarded=True)


def _judge(config: Opd, head: Head | None) -> Method:
    own = config.judge

    def learn(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        rows = _as_sampled(rollouts)
        rewards = [_signed(scored.rollout.reward) for scored in rollouts]
        groups = [rewards[at : at + config.group] for at in range(0, len(rewards), config.group)]
        advantages = judge_advantages(groups, own.leave_one_out).values.flatten()
        weights = lock_in_weights(groups, own.lock_in).flatten()
        return [
            row.with_features(
                advantages=advantage.expand(len(row.response)).clone(),
                weights=weight.expand(len(row.response)).clone(),
            )
            for row, reward, advantage, weight in zip(rows, rewards, advantages, weights, strict=True)
            if reward is not None
        ]

    return Method(JudgeReinforcement(config.importance_cap), None, learn, rewarded=True)


def _ghost(config: Opd, head: Head | None) -> Method:
    own = config.ghost
    objective = GhostPolicy(config.importance_cap, own.entropy_bonus)
    if own.source == "teacher":
        return Method(objective, TeacherNeeds(ghosts=True), _as_sampled)

    def own_best(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        sampled = [scored.rollout for scored in rollouts]
        groups = [sampled[at : at + config.group] for at in range(0, len(sampled), config.group)]
        return [row for group in groups for row in _towards_best(group)]

    def written(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
        return [_on_ghost(scored.rollout, scored.rollout.ghost_ids or []) for scored in rollouts]

    return Method(objective, None, own_best if own.source == "own" else written, rewarded=own.source == "own")


def _towards_best(group: Sequence[Rollout]) -> list[TrainingSequence]:
    """The wrong rollouts of a group, each beside the shortest right one; none where there is none."""
    right = [rollout for rollout in group if rollout.reward == 1]
    if not right:
        return []
    best = min(right, key=lambda rollout: (len(rollout.response_ids), rollout.row))
    return [_on_ghost(rollout, best.response_ids) for rollout in group if rollout.reward == 0]


def _on_ghost(rollout: Rollout, ghost: Sequence[int]) -> TrainingSequence:
    """A sequence on the ghost's prefix, with the student's token at the same place."""
    ids, logprobs = align(rollout.response_ids, torch.tensor(rollout.sampler_logprobs), ghost)
    features = {"student_ids": ids, "sampler_logprobs": logprobs}
    return TrainingSequence([*rollout.prompt_ids, *ghost], len(rollout.prompt_ids), features)


_METHODS: dict[str, Callable[[Opd, Head | None], Method]] = {
    "exact": _exact,
    "sampled": _sampled,
    "topk": _topk,
    "gkd": _gkd,
    "grpo": _grpo,
    "ghost": _ghost,
    "judge": _judge,
}


def _as_sampled(rollouts: Sequence[ScoredRollout]) -> list[TrainingSequence]:
    """Each rollout as it was sampled."""
    return [scored.sequence() for scored in rollouts]


def _given(head: Head | None) -> Head:
    if head is None:
        raise ValueError("this objective needs the teacher's output layer")
    return head


def _number(reward: float | None) -> float:
    return float("nan") if reward is None else reward


def _signed(reward: float | None) -> float | None:
    """A judge's verdict as +1 or -1; a rollout without one is dropped."""
    return None if reward is None else 2 * reward - 1
