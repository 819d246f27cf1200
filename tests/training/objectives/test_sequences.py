"""The sequences that each objective makes of rollouts."""

import torch

from cohobate.config import Opd
from cohobate.models.sequence import TrainingSequence
from cohobate.training.objectives.base import on_policy
from cohobate.training.types import ScoredRollout
from tests.support.rollouts import scored_rollout


def rewarded(rewards: list[float | None], lengths: list[int]) -> list[ScoredRollout]:
    return [
        scored_rollout(i, [10 + i] * length, [-0.5] * length, reward=reward)
        for i, (reward, length) in enumerate(zip(rewards, lengths, strict=True))
    ]


def test_grpo_advantages_are_rewards_less_the_mean_of_their_group() -> None:
    config = Opd(objective="grpo", group=2, steps=1, warmup=0)
    rows = on_policy(config).sequences(rewarded([1, 0, 1, 1], [3, 2, 1, 1]))
    advantages = [row.features["advantages"].tolist() for row in rows]
    assert advantages == [[0.5] * 3, [-0.5] * 2, [0.0], [0.0]]


def test_judged_rollouts_have_signed_rewards_and_those_without_a_verdict_are_dropped() -> None:
    config = Opd(objective="judge", group=3, steps=1, warmup=0)
    rows = on_policy(config).sequences(rewarded([1, 0, None, 0, 0, 0], [2, 1, 5, 1, 1, 1]))
    assert [len(row.response) for row in rows] == [2, 1, 1, 1, 1]
    # +1 less the mean of the other that has a verdict, and the reverse; a group of one mind teaches nothing.
    assert [row.features["advantages"].tolist() for row in rows] == [[2.0, 2.0], [-2.0], [0.0], [0.0], [0.0]]
    assert [row.features["weights"].tolist() for row in rows] == [[2.0, 2.0], [0.0], [0.0], [0.0], [0.0]]


def test_wrong_rollouts_learn_from_the_shortest_right_one_of_their_group() -> None:
    config = Opd.model_validate({"objective": "ghost", "ghost": {"source": "own"}, "group": 4})
    rows = on_policy(config).sequences(rewarded([1, 0, 1, None, 0, 0, 0, 0], [5, 3, 2, 4, 1, 1, 1, 1]))
    # The second group has no right one, and the undecided row is not called wrong.
    [row] = rows
    assert row.ids == [1, 2, 12, 12] and row.context == 2
    assert row.features["student_ids"].tolist() == [11, 11]


def test_partial_rollouts_keep_the_facts_of_their_first_tokens() -> None:
    row = TrainingSequence([1, 2, 3, 4, 5], 2, {"teacher_logprobs": torch.tensor([-1.0, -2.0, -3.0])})
    cut = row.first(2)
    assert cut.ids == [1, 2, 3, 4] and cut.features["teacher_logprobs"].tolist() == [-1.0, -2.0]
    assert row.first(3) is row and row.first(None) is row
