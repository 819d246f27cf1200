"""Who samples the student's rollouts: this process, or an engine beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cohobate import rollouts
from cohobate.config import Recipe
from cohobate.rollouts import Sampled
from cohobate.training.adapters import Trainee


class Sampler(Protocol):
    """Samples from the student as it is at each call."""

    def sample(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[Sampled]:
        """A response to each of `prompts`, at temperature 1; keys name their noise under opd.seed."""
        ...

    def close(self) -> None:
        """End what it has started."""
        ...


class LocalSampler:
    """The student's own model, in the precision of its updates."""

    def __init__(self, recipe: Recipe, trainee: Trainee) -> None:
        self.config, self.trainee = recipe.opd, trainee

    def sample(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[Sampled]:
        student, longest = self.trainee.student, self.config.max_tokens
        with self.trainee.precision():
            return rollouts.sample(
                student.model,
                prompts,
                rollouts.Decoding(longest),
                rollouts.uniforms(self.config.seed, keys, longest),
                eos_ids=student.eos_ids,
                pad_id=student.pad_id,
            )

    def close(self) -> None:
        """It has started nothing."""


def sampler(recipe: Recipe, trainee: Trainee) -> Sampler:
    """That of opd.sampler. Raises EngineError when vLLM is not installed."""
    if recipe.opd.sampler == "local":
        return LocalSampler(recipe, trainee)
    from cohobate.training.vllm_sampler import VllmSampler

    return VllmSampler(recipe, trainee)
