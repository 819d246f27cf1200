"""Who samples the student's rollouts: this process, or an engine beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError
from cohobate.models.sampling import sampler as rollouts
from cohobate.models.sampling.sampler import Sampled
from cohobate.training.trainee import Trainee

# Gives the responses, in whatever thread it is called.
Draw = Callable[[], list[Sampled]]


class Sampler(Protocol):
    """Samples from the student."""

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Draw:
        """What draws a response to each of `prompts`, at temperature 1; keys name their noise under opd.seed.

        The weights are those of this moment, even if it draws while the student learns (which needs opd.overlap). It
        is called before the next `begin`, and once.
        """
        ...

    def close(self) -> None:
        """End what it has started, soon, even while something is drawn."""
        ...


class LocalSampler:
    """The student's own model, in the precision of its updates; with opd.overlap a copy of it."""

    def __init__(self, recipe: Recipe, trainee: Trainee) -> None:
        self.config, self.trainee = recipe.opd, trainee
        self.copy: Any = None
        self.closed = False

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Draw:
        student, longest = self.trainee.student, self.config.max_tokens
        model = self._copied() if self.config.overlap else student.model

        def draw() -> list[Sampled]:
            with self.trainee.precision():
                return rollouts.sample(
                    model,
                    prompts,
                    rollouts.Decoding(longest),
                    rollouts.uniforms(self.config.seed, keys, longest),
                    eos_ids=student.eos_ids,
                    pad_id=student.pad_id,
                    done=self._go_on,
                )

        return draw

    def close(self) -> None:
        """What is being drawn ends with an error, at the next row that is done."""
        self.closed = True

    @torch.no_grad()
    def _copied(self) -> Any:
        """A model of its own with the student's weights as they are now."""
        model = self.trainee.student.model
        if self.copy is None:
            self.copy = copy.deepcopy(model)
        for ours, theirs in zip(self.copy.parameters(), model.parameters(), strict=True):
            if theirs.requires_grad:
                ours.copy_(theirs)
        return self.copy

    def _go_on(self, rows: int) -> None:
        if self.closed:
            raise CohobateError("the rollouts are wanted no more")


def sampler(recipe: Recipe, trainee: Trainee) -> Sampler:
    """That of opd.sampler. Raises EngineError when vLLM is not installed."""
    if recipe.opd.sampler == "local":
        return LocalSampler(recipe, trainee)
    from cohobate.training.vllm_sampler import VllmSampler

    return VllmSampler(recipe, trainee)
