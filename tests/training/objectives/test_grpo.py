"""Group-relative advantages, the clipped ratio, truncated importance weights, lengths: by hand."""

import math
from dataclasses import replace

import pytest
import torch

from cohobate.models.token_loss import Tokens
from cohobate.training.objectives.grpo import GroupRelative, length_weights
from cohobate.training.objectives.policy_gradient import group_advantages
from tests.support.tree import close, gradient, logits_of

NAN = math.nan


# Advantages.


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, 0.0, 0.0, 1.0], [0.5, -0.5, -0.5, 0.5]),
        ([3.0, 0.0, 0.0], [2.0, -1.0, -1.0]),
        ([1.0, NAN, 0.0], [0.5, 0.0, -0.5]),  # without a reward: no part of the mean, nothing to learn
    ],
)
def test_the_advantage_is_the_reward_minus_the_mean_of_its_group(rewards: list[float], expected: list[float]) -> None:
    found = group_advantages(torch.tensor([rewards]))
    close(found.values, torch.tensor([expected]))
    assert found.flat == 0


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, 0.0, 0.0], [1.0, -0.5, -0.5]),
        ([1.0, NAN, 0.0], [1.0, 0.0, -1.0]),
    ],
)
def test_leave_one_out_takes_the_mean_of_the_others(rewards: list[float], expected: list[float]) -> None:
    close(group_advantages(torch.tensor([rewards]), "leave_one_out").values, torch.tensor([expected]))


def test_the_standard_deviation_is_that_of_the_sample() -> None:
    rewards = logits_of(3, 4, seed=1)
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    close(group_advantages(rewards, by_std=True).values, expected)
    with_gap = torch.cat([rewards, torch.full((3, 1), NAN)], 1)
    close(group_advantages(with_gap, by_std=True).values[:, :4], expected)


@pytest.mark.parametrize("by_std", [False, True])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_groups_of_equal_rewards_teach_nothing_and_are_counted(by_std: bool, leave_one_out: bool) -> None:
    # The mean of six float32 0.6 is not 0.6; a deviation by rounding, divided by its own size, would be a lesson.
    assert torch.full((6,), 0.6).sum() / 6 != torch.tensor(0.6)
    same, one, none = [0.6] * 6, [0.6] + [NAN] * 5, [NAN] * 6
    rewards = torch.tensor([same, one, none, [0.6] * 5 + [NAN], [0.6] * 5 + [0.5]])
    found = group_advantages(rewards, "leave_one_out" if leave_one_out else "mean", by_std)
    assert found.flat == 4
    assert found.values.isfinite().all()
    assert not found.values[:4].any()
    assert found.values[4].abs().min() > 0.01


# The loss.


def one_token(own: float, old: float, sampler: float, advantage: float) -> tuple[torch.Tensor, Tokens]:
    """Logits of two tokens, of which the first was sampled and has probability `own`; what is known of it."""
    logits = torch.tensor([[own, 1 - own]], dtype=torch.float64).log()
    logprobs = [torch.tensor([math.log(p)], dtype=torch.float64) for p in (sampler, old)]
    known = {"sampler_logprobs": logprobs[0], "old_logprobs": logprobs[1], "advantages": torch.tensor([advantage])}
    return logits, Tokens(torch.tensor([0]), **known)


@pytest.mark.parametrize(
    ("rho", "advantage", "used", "clipped"),
    [
        (1.0, 2.0, 1.0, ""),
        (1.25, 2.0, 1.25, ""),
        (1.5, 2.0, 1.28, "high"),
        (1.5, -2.0, 1.5, ""),
        (0.7, 2.0, 0.7, ""),
        (0.7, -2.0, 0.8, "low"),
        (0.85, -2.0, 0.85, ""),
    ],
)
def test_the_ratio_is_clipped_where_it_has_gone_far_enough(
    rho: float, advantage: float, used: float, clipped: str
) -> None:
    logits, tokens = one_token(own=0.3 * rho, old=0.3, sampler=0.3, advantage=advantage)
    terms = GroupRelative()(logits, tokens)
    close(terms["loss"], torch.tensor(-used * advantage))
    assert [name for name in ("low", "high") if terms[f"clipped_{name}"]] == ([clipped] if clipped else [])
    # d rho = rho (onehot - p); nothing where it is clipped.
    p = logits.exp()
    slope = torch.zeros(1, 2) if clipped else rho * (torch.tensor([[1.0, 0.0]]) - p)
    close(gradient(GroupRelative(), logits, tokens), -advantage * slope)


@pytest.mark.parametrize(("sampler", "weight"), [(0.3, 1.0), (0.2, 1.5), (0.1, 2.0), (0.6, 0.5)])
def test_what_the_sampler_did_otherwise_is_weighted_up_to_the_cap(sampler: float, weight: float) -> None:
    logits, tokens = one_token(own=0.33, old=0.3, sampler=sampler, advantage=1.0)
    close(GroupRelative()(logits, tokens)["loss"], torch.tensor(-weight * 1.1))


def test_without_old_logprobs_the_ratio_is_one_and_has_a_gradient() -> None:
    logits, tokens = one_token(own=0.3, old=0.3, sampler=0.3, advantage=2.0)
    once = replace(tokens, old_logprobs=None)
    close(GroupRelative()(logits, once)["loss"], torch.tensor(-2.0))
    close(gradient(GroupRelative(), logits, once), gradient(GroupRelative(), logits, tokens))


@pytest.mark.parametrize(
    ("teacher", "gap"), [(0.6, math.log(2)), (0.3 * math.exp(-12), -10.0), (0.3 * math.exp(-9), -9)]
)
def test_the_teachers_log_ratio_is_added_to_the_advantage(teacher: float, gap: float) -> None:
    logits, tokens = one_token(own=0.3, old=0.3, sampler=0.3, advantage=2.0)
    scored = replace(tokens, teacher_logprobs=torch.tensor([math.log(teacher)]))
    terms = GroupRelative(alpha=0.5)(logits, scored)
    close(terms["loss"], torch.tensor(-(2.0 + 0.5 * gap)))
    close(terms["reverse_kl"], torch.tensor(math.log(0.3 / teacher)))


# Lengths.


@pytest.mark.parametrize("constant", [None, 10])
def test_weights_turn_the_mean_over_tokens_into_one_over_responses(constant: int | None) -> None:
    lengths, values = [4, 1, 0, 3], torch.arange(8.0)
    weights = length_weights(lengths, constant)
    assert [len(x) for x in weights] == lengths
    mean_over_tokens = float((torch.cat(weights) * values).sum() / 8)
    by_response = [float(x.sum()) / (constant or max(1, len(x))) for x in values.split(lengths)]
    assert mean_over_tokens == pytest.approx(sum(by_response) / 4)


def test_no_responses_have_no_weights() -> None:
    assert length_weights([]) == []
    assert [len(x) for x in length_weights([0, 0])] == [0, 0]
