"""How the next token is chosen: the noise that decides, and the distribution that it decides by."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cohobate.models.sampling.decoding import choose
from cohobate.models.sampling.sampler import Decoding, uniforms


def test_noise_depends_on_seed_and_key_alone() -> None:
    whole = uniforms(3, ["a", "b", "c"], 50)
    assert whole.min() >= 0 and whole.max() < 1
    np.testing.assert_array_equal(uniforms(3, ["c", "a"], 50), whole[[2, 0]])
    np.testing.assert_array_equal(uniforms(3, ["b"], 20), whole[1:2, :20])
    assert not np.isin(uniforms(4, ["a", "b", "c"], 50), whole).any()
    assert len(np.unique(whole)) == whole.size


def test_noise_is_uniform_across_keys_and_places() -> None:
    """Mean and variance of [0, 1) within 4 standard errors, down each column and along each row."""
    noise = uniforms(0, [f"{i}/0" for i in range(1000)], 1000)
    for axis in (0, 1):
        assert np.abs(noise.mean(axis) - 0.5).max() < 5 * math.sqrt(1 / 12 / 1000)
    assert abs(noise.mean() - 0.5) < 4 * math.sqrt(1 / 12) / 1000
    assert abs(noise.var() - 1 / 12) < 4 * math.sqrt(1 / 180) / 1000  # the variance of (u - 1/2)^2 is 1/180


def shares(logits: torch.Tensor, decoding: Decoding, points: int = 2000) -> torch.Tensor:
    """How much of [0, 1) leads to each token, measured on an even grid: exact to 1 / points a token."""
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    chosen = choose(logits.expand(points, -1), decoding, grid)
    return torch.bincount(chosen, minlength=len(logits)) / points


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (4, 1.0), (0, 0.8), (0, 0.3), (6, 0.7), (1, 1.0), (99, 1.0)])
def test_truncation_is_that_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    for seed in range(5):
        logits = 2 * torch.randn(12, generator=torch.Generator().manual_seed(seed))
        expected = warpers(torch.zeros(1, 1, dtype=torch.long), logits[None])[0].softmax(-1)
        found = shares(logits, Decoding(1, temperature, top_p, top_k))
        assert (found - expected).abs().max() <= 1 / 2000 + 1e-6
        assert found[expected == 0].sum() == 0


def test_a_nucleus_is_the_smallest_set_that_holds_its_mass() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert shares(logits, Decoding(1, top_p=0.6)).tolist() == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=1e-3)
    assert shares(logits, Decoding(1, top_p=0.45)).tolist() == [0, 1, 0, 0]
    assert shares(logits, Decoding(1, top_p=0.8)).tolist() == pytest.approx([0, 5 / 9, 1 / 6, 5 / 18], abs=1e-3)


def test_an_impossible_token_is_never_chosen_not_even_at_the_ends() -> None:
    logits = torch.randn(500, 30, generator=torch.Generator().manual_seed(0))
    logits[:, [0, 1, 7, 28, 29]] = -math.inf
    lowest = torch.zeros(500, dtype=torch.float64)
    assert set(choose(logits, Decoding(1), lowest).tolist()) == {2}
    # The chances of most rows do not add up to exactly 1.
    assert set(choose(logits, Decoding(1), lowest + math.nextafter(1, 0)).tolist()) == {27}


def test_at_temperature_zero_the_likeliest_token_is_taken() -> None:
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    likeliest = [max(range(30), key=row.__getitem__) for row in logits.tolist()]
    assert choose(logits, Decoding(1, temperature=0), None).tolist() == likeliest
