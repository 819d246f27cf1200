"""A moving average of weights, and a mixture of teachers, against sums written out."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, kl_divergence

from cohobate.training.moving_average import follow
from cohobate.training.objectives.distributions import kl, mixture
from tests.support.tree import close, logits_of

SHARE = 0.05


def layer(seed: int) -> torch.nn.Linear:
    made = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(logits_of(*parameter.shape, seed=seed))
    return made


def test_after_some_steps_it_is_the_sum_of_all_weights_each_with_its_share() -> None:
    average, steps = layer(0), [layer(seed) for seed in range(1, 8)]
    for model in steps:
        follow(average, model, SHARE)
    for name, found in average.named_parameters():
        ages = [
            SHARE * (1 - SHARE) ** (len(steps) - k) * dict(m.named_parameters())[name] for k, m in enumerate(steps, 1)
        ]
        close(found, (1 - SHARE) ** len(steps) * dict(layer(0).named_parameters())[name] + sum(ages), 1e-6)


@pytest.mark.parametrize(("share", "seed"), [(0.0, 0), (1.0, 1)], ids=["stays", "is the model"])
def test_the_ends_of_the_share_are_exact_and_the_model_is_left_as_it_is(share: float, seed: int) -> None:
    average, model = layer(0), layer(1)
    follow(average, model, share)
    assert average.weight.equal(layer(seed).weight) and model.weight.equal(layer(1).weight)


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ValueError, match="same weights"):
        follow(layer(0), torch.nn.Linear(3, 4), SHARE)
    with pytest.raises(ValueError, match="float32"):
        follow(layer(0).bfloat16(), layer(1), SHARE)
    with pytest.raises(ValueError, match="between 0 and 1"):
        follow(layer(0), layer(1), 1.5)


TEACHERS = [logits_of(6, 9, seed=seed, scale=3).log_softmax(-1) for seed in (1, 2, 3)]
WEIGHTS = [0.5, 0.2, 0.3]


def test_a_mixture_is_one_of_probabilities() -> None:
    components = Categorical(logits=torch.stack(TEACHERS, 1))
    mixed = MixtureSameFamily(Categorical(torch.tensor(WEIGHTS, dtype=torch.float64).expand(6, 3)), components)
    expected = torch.stack([mixed.log_prob(torch.full((6,), token)) for token in range(9)], 1)
    close(mixture(TEACHERS, WEIGHTS), expected, 1e-6)
    student = logits_of(6, 9, seed=4).log_softmax(-1)
    written = kl_divergence(Categorical(logits=student), Categorical(logits=expected))
    close(kl(student, mixture(TEACHERS, WEIGHTS)), written, 1e-5)


def test_a_token_that_one_teacher_excludes_keeps_the_others_share() -> None:
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    close(mixture([one, other], [0.25, 0.75]).exp(), torch.tensor([[0.25, 0.75]]))
    assert mixture([one, other], [1.0, 0.0]).equal(one)


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [1.0]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        mixture(TEACHERS[:2], weights)
