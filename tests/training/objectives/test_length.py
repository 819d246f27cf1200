"""The price on length: its formula, and by enumeration the gradient of the mean price beside the objective's own."""

from typing import Any

import pytest
import torch

from cohobate.config import Opd
from cohobate.config.load import load_recipe
from cohobate.training.objectives.base import on_policy
from cohobate.training.objectives.exact import ExactReverseKL
from cohobate.training.objectives.length import LengthPriced, length_advantages, prices
from tests.support.rollouts import scored_rollout
from tests.support.tree import (
    DEPTH,
    RESPONSES,
    VOCABULARY,
    Case,
    chances,
    close,
    index,
    places_of,
    policy,
    token_logprobs,
    visits,
)

STUDENT, TEACHER = policy(1), policy(2)
# Each response of the tree counts for as many tokens, up to a limit of 12 of which 4 are free.
LENGTHS = (RESPONSES * torch.tensor([2, 1, 0])).sum(-1)
WITH_TARGET = Opd.model_validate({"length": {"target": 4, "price": 0.7}, "max_tokens": 12, "group": 2})


def know(responses: torch.Tensor) -> dict[str, Any]:
    advantages = torch.tensor(length_advantages(WITH_TARGET, LENGTHS[index(responses)].tolist()), dtype=torch.float64)
    return {
        "sampler_logprobs": token_logprobs(STUDENT, responses).flatten(),
        "teacher_hidden": TEACHER[places_of(responses).flatten()],
        "length_advantages": advantages.repeat_interleave(DEPTH),
    }


def expected(logits: torch.Tensor) -> torch.Tensor:
    """The mean price of a response, and the reverse KL at the prefixes that are visited."""
    price = 0.7 * (LENGTHS - 4).clamp(min=0) / 4
    divergence = (logits.softmax(-1) * (logits.log_softmax(-1) - TEACHER.log_softmax(-1))).sum(-1)
    return (chances(logits) * price).sum() + (visits(STUDENT) * divergence).sum()


PRICED = Case(LengthPriced(ExactReverseKL(lambda hidden: hidden)), know, expected, STUDENT, STUDENT, group=2)


def test_the_expected_gradient_is_that_of_the_mean_price_and_of_the_objective() -> None:
    assert LENGTHS.max() == 3 * (VOCABULARY - 1)
    close(PRICED.enumerated_gradient(), PRICED.expected_gradient(), 1e-5)
    assert PRICED.worst_deviation(5000) < 4


def test_a_price_is_that_of_the_tokens_beyond_the_target() -> None:
    assert prices(WITH_TARGET, [3, 4, 8, 12]) == pytest.approx([0, 0, 0.7, 1.4])
    each_token = Opd.model_validate({"length": {"price": 0.5}, "max_tokens": 10})
    assert prices(each_token, [1, 10]) == pytest.approx([0.05, 0.5])
    assert prices(Opd(), [5, 7]) == [0, 0]


def test_a_rollout_is_held_against_the_others_of_its_group_and_equal_ones_teach_nothing() -> None:
    assert length_advantages(WITH_TARGET, [4, 8, 12, 12, 1, 3]) == pytest.approx([0.7, -0.7, 0, 0, 0, 0])


@pytest.mark.parametrize("objective", ["exact", "topk", "sampled", "gkd", "grpo", "ghost", "judge"])
def test_it_goes_with_every_objective_that_learns_rollouts(objective: str) -> None:
    config = Opd.model_validate({"objective": objective, "length": {}, "max_tokens": 4})
    rollouts = [scored_rollout(i, [5] * 3, [-0.5] * 3, reward=1.0 * i) for i in range(2)]
    priced = [type(item)(item.rollout, item.teacher, None, 0.25) for item in rollouts]
    rows = on_policy(config).sequences(priced)
    assert [row.features["length_advantages"].tolist() for row in rows] == [[0.25] * 3] * 2


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"objective": "dpo"}, "drop .opd.length."),
        ({"objective": "ghost", "ghost": {"source": "own"}}, "drop .opd.length."),
        ({"group": 1}, "set group to 2 or more"),
        ({"length": {"target": 128}}, "lower the target"),
        ({"length": {"price": 0}}, "greater than 0"),
    ],
)
def test_a_price_that_would_do_nothing_is_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Opd.model_validate({"length": {"target": 20}, **settings})


def test_it_is_part_of_the_identity_only_where_it_is_set() -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return load_recipe("tiny", list(overrides)).opd.identity()

    assert "length" not in identity()
    assert identity("opd.length.target=20")["length"] == {"target": 20, "price": 1.0}
