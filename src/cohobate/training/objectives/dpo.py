"""Direct preference optimisation: the good response over the bad one, relative to a reference.

L = -log sigmoid(beta (s(a) - s(b))),  s(y) = sum_t c_t [log p(y_t) - log r(y_t)]

a, b: the good and the bad response; p: the student now; r: the reference. c_t = 1 is the published loss (Rafailov et
al. 2023, "Direct Preference Optimization"), whose sums favour length: the longer of two responses has more tokens on
which its ratio can grow. Two controls of that: c_t = 1 / length (Lambert et al. 2024, "Tulu 3"), and less
weight on what the longer response has beyond the length of the shorter one (Liu et al. 2024, "Length Desensitization in
Direct Preference Optimization").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cohobate.core.settings import Share
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


class DpoSettings(PreferenceSettings):
    """Direct preference optimisation."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly the reference holds: the larger, the nearer the student stays. With lengths = "mean" about 5."""
    lengths: Literal["sum", "mean"] = "sum"
    """The score of a response: the sum of its tokens' log-ratios, or their mean, which does not favour length."""
    excess: Share = 1.0
    """Weight of the tokens that one response has beyond the length of the other; 1: as of all others."""

    @property
    def comparison(self) -> DirectPreference:
        return DirectPreference(self.beta, self.lengths == "mean", self.excess)


class DpoRoundSettings(DpoSettings, RoundSettings):
    """Direct preference optimisation in rounds of rollouts."""


class Dpo(GivenPreference[DpoSettings]):
    """Right responses over wrong ones, relative to the start."""

    name = "dpo"
    settings = DpoSettings


class DpoRounds(RolloutPreference[DpoRoundSettings]):
    """The teacher's text over the student's, relative to the start of the round."""

    name = "dpo"
    settings = DpoRoundSettings


@dataclass(frozen=True)
class DirectPreference(Comparison):
    """beta: in units of reward per nat; by_length: c_t = 1 / length; excess: c_t beyond the length of the other."""

    beta: float = 0.1
    by_length: bool = False
    excess: float = 1.0

    def rewards(self, ratios: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        pairs = zip(ratios[0::2], ratios[1::2], strict=True)
        both = ((own, min(len(one), len(other))) for one, other in pairs for own in (one, other))
        sums = [self._score(own, shared) for own, shared in both]
        return self.beta * torch.stack(sums)

    def losses(self, rewards: torch.Tensor, good: torch.Tensor, divergence: float) -> torch.Tensor:
        return -log_sigmoid(rewards[0::2] - rewards[1::2])

    def _score(self, ratio: torch.Tensor, shared: int) -> torch.Tensor:
        total = ratio[:shared].sum() + self.excess * ratio[shared:].sum()
        return total / len(ratio) if self.by_length else total
