"""Judge reinforcement: rewards of +1 and -1, the lock-in, rows without a reward, the running mean."""

import pytest
import torch

from cohobate.models.token_loss import Tokens
from cohobate.training.objectives.judge import (
    JudgeReinforcement,
    Rewards,
    improved,
    judge_advantages,
    lock_in_weights,
    running_reward,
)
from tests.support.tree import close, gradient, logits_of


def test_the_baseline_is_the_mean_of_the_others() -> None:
    rewards: Rewards = [[1, -1, -1], [1, 1, 1], [1, None, -1], [None, None, 1]]
    found = judge_advantages(rewards)
    expected = [[2.0, -1.0, -1.0], [0, 0, 0], [2, 0, -2], [0, 0, 0]]
    close(found.values, torch.tensor(expected))
    assert found.flat == 2


def test_without_a_baseline_the_advantage_is_the_reward() -> None:
    assert judge_advantages([[1, -1], [None, 1]], leave_one_out=False).values.tolist() == [[1, -1], [0, 1]]


def test_what_was_rewarded_is_locked_in_and_nothing_else() -> None:
    assert lock_in_weights([[1, -1, None], [1, 1, 1]]).tolist() == [[2, 0, 0], [2, 2, 2]]


def test_the_classic_policy_learns_by_reinforce_and_lock_in() -> None:
    """One choice of ten answers a question: loss = -log p * r, and 2 * cross-entropy where r > 0."""
    logits, chosen = logits_of(3, 10, seed=1), torch.tensor([4, 0, 7])
    rewards: Rewards = [[1], [-1], [None]]
    logprobs = logits.log_softmax(-1)[torch.arange(3), chosen]
    tokens = Tokens(
        chosen,
        logprobs,
        advantages=judge_advantages(rewards, leave_one_out=False).values[:, 0],
        weights=lock_in_weights(rewards)[:, 0],
    )
    terms = JudgeReinforcement()(logits, tokens)
    close(terms["loss"], -logprobs[0] + logprobs[1] - 2 * logprobs[0])
    close(terms["locked_in"], -2 * logprobs[0])
    found = gradient(JudgeReinforcement(), logits, tokens)
    onehot = torch.eye(10)[chosen]
    close(found, torch.tensor([[-3.0], [1.0], [0.0]]) * (onehot - logits.softmax(-1)))
    assert not found[2].any()


def test_only_the_policy_gradient_is_weighted_by_importance() -> None:
    logits = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    known = {"advantages": torch.tensor([1.0]), "weights": torch.tensor([2.0])}
    tokens = Tokens(torch.tensor([0]), torch.tensor([0.8], dtype=torch.float64).log(), **known)
    close(gradient(JudgeReinforcement(), logits, tokens), -(0.625 + 2) * torch.tensor([[0.5, -0.5]]))


def test_the_running_reward_keeps_95_percent() -> None:
    assert running_reward(0.2, [1]) == pytest.approx(0.95 * 0.2 + 0.05)
    assert running_reward(0.0, [1, None, -1]) == pytest.approx(0.95 * 0.05 - 0.05)
    assert running_reward(0.3, [None]) == 0.3


def test_a_policy_is_saved_when_it_is_better_by_the_margin() -> None:
    assert improved(0.36, 0.3)
    assert not improved(0.34, 0.3)
