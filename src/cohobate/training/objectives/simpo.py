"""Simple preference optimisation: the good response over the bad one by their mean log-probabilities, no reference.

L = -log sigmoid(beta (mean_t log p(a_t) - mean_t log p(b_t)) - gamma)

a, b: the good and the bad response; p: the student; gamma: the margin by which a is to be ahead. Without a reference
nothing holds the student back but the learning rate and the number of steps. (Meng et al. 2024, "SimPO: Simple
Preference Optimization with a Reference-Free Reward".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cohobate.core.settings import Weight
from cohobate.training.objectives.preference import (
    Comparison,
    GivenPreference,
    PreferenceSettings,
    RolloutPreference,
    RoundSettings,
    log_sigmoid,
)

if TYPE_CHECKING:
    import torch


class SimpoSettings(PreferenceSettings):
    """Simple preference optimisation."""

    beta: Annotated[float, Field(gt=0)] = 2.0
    """Units of reward for a nat of the mean log-probability."""
    margin: Weight = 1.0
    """By how much reward the good response is to be ahead."""

    @property
    def comparison(self) -> SimplePreference:
        return SimplePreference(self.beta, self.margin)


class SimpoRoundSettings(SimpoSettings, RoundSettings):
    """Simple preference optimisation in rounds of rollouts."""


class Simpo(GivenPreference[SimpoSettings]):
    """Right responses over wrong ones by mean log-probability, without a reference."""

    name = "simpo"
    settings = SimpoSettings


class SimpoRounds(RolloutPreference[SimpoRoundSettings]):
    """The teacher's text over the student's by mean log-probability, without a reference."""

    name = "simpo"
    settings = SimpoRoundSettings


@dataclass(frozen=True)
class SimplePreference(Comparison):
    """beta: units of reward per nat of the mean; margin: gamma, in units of reward."""

    has_reference = False

    beta: float = 2.0
    margin: float = 1.0

    def rewards(self, ratios: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return self.beta * torch.stack([ratio.mean() for ratio in ratios])

    def losses(self, rewards: torch.Tensor, good: torch.Tensor, divergence: float) -> torch.Tensor:
        return -log_sigmoid(rewards[0::2] - rewards[1::2] - self.margin)
