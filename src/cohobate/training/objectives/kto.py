"""Kahneman-Tversky optimisation: each response is good or bad by itself; no pairs are needed.

s = sum_t [log p(y_t) - log r(y_t)],  z = max(0, KL(p || r))
L = lambda_good (1 - sigmoid(beta (s - z))) of a good response, lambda_bad (1 - sigmoid(beta (z - s))) of a bad one

p: the student now; r: the reference; z: the reference point, without a gradient, estimated over the step by the mean
log-ratio of responses behind other prompts (`mismatched`). (Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect
Theoretic Optimization", which advises lambda_good n_good / (lambda_bad n_bad) between 1 and 4/3.)
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
)

if TYPE_CHECKING:
    import torch


class KtoSettings(PreferenceSettings):
    """Kahneman-Tversky optimisation."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the reference holds: the larger, the nearer the student stays."""
    good: Weight = 1.0
    """Weight of the good responses."""
    bad: Weight = 1.0
    """Weight of the bad ones."""

    @property
    def comparison(self) -> ProspectTheory:
        return ProspectTheory(self.beta, self.good, self.bad)


class KtoRoundSettings(KtoSettings, RoundSettings):
    """Kahneman-Tversky optimisation in rounds of rollouts."""


class Kto(GivenPreference[KtoSettings]):
    """Right and wrong responses, each by itself, relative to the start."""

    name = "kto"
    settings = KtoSettings


class KtoRounds(RolloutPreference[KtoRoundSettings]):
    """The teacher's text as good and the student's as bad, each by itself, relative to the start of the round."""

    name = "kto"
    settings = KtoRoundSettings


@dataclass(frozen=True)
class ProspectTheory(Comparison):
    """beta: in units of reward per nat; good, bad: lambda of each side."""

    in_pairs = False
    needs_divergence = True

    beta: float = 0.1
    good: float = 1.0
    bad: float = 1.0

    def rewards(self, ratios: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return self.beta * torch.stack([ratio.sum() for ratio in ratios])

    def losses(self, rewards: torch.Tensor, good: torch.Tensor, divergence: float) -> torch.Tensor:
        import torch

        ahead = rewards - self.beta * max(0.0, divergence)
        return torch.where(good, self.good * (1 - ahead.sigmoid()), self.bad * (1 - (-ahead).sigmoid()))
