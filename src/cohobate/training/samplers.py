"""The samplers of a student in training, for its rollouts and its evaluation points: this process, or an engine beside
it, which is one for both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from cohobate.config import Recipe
from cohobate.core.errors import CohobateError
from cohobate.evaluation import samplers as evaluated
from cohobate.evaluation.samplers import ModelSampler
from cohobate.models.sampling.sampler import Decoding, Sampled, sample, uniforms
from cohobate.training.trainee import Trainee

# Returns the responses; it may be called in any thread.
Draw = Callable[[], list[Sampled]]


class Sampler(Protocol):
    """Samples from the student."""

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Draw:
        """A function that draws a response to each of `prompts` at temperature 1.

        keys: the names of their noise under opd.seed. The function draws with the weights of this moment, even while
        the student learns (which needs opd.overlap). It is called once, before the next `begin`.
        """
        ...

    def close(self) -> None:
        """End soon what it has started, even while responses are drawn."""
        ...


class LocalSampler:
    """Samples with the student's own model, in the precision of its updates; with opd.overlap, with a copy of it."""

    def __init__(self, recipe: Recipe, trainee: Trainee) -> None:
        self.config, self.trainee = recipe.opd, trainee
        self.copy: Any = None
        self.closed = False

    def begin(self, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> Draw:
        student, longest = self.trainee.student, self.config.max_tokens
        model = self._copied() if self.config.overlap else student.model

        def draw() -> list[Sampled]:
            with self.trainee.precision():
                return sample(
                    model,
                    prompts,
                    Decoding(longest),
                    uniforms(self.config.seed, keys, longest),
                    eos_ids=student.eos_ids,
                    pad_id=student.pad_id,
                    batch_size=self.config.batch_size,
                    done=self._check_open,
                )

        return draw

    def close(self) -> None:
        """Drawing in another thread ends with an error at the next row that is done."""
        self.closed = True

    @torch.no_grad()
    def _copied(self) -> Any:
        """A second model with the student's present weights."""
        model = self.trainee.student.model
        if self.copy is None:
            self.copy = copy.deepcopy(model)
        for copied, parameter in zip(self.copy.parameters(), model.parameters(), strict=True):
            if parameter.requires_grad:
                copied.copy_(parameter)
        return self.copy

    def _check_open(self, rows: int) -> None:
        if self.closed:
            raise CohobateError("the rollouts are wanted no more")


@dataclass(frozen=True)
class Samplers:
    """`rollouts` as opd.sampler says, `points` (the evaluation points) as evaluation.sampler says."""

    rollouts: Sampler
    points: ModelSampler

    @classmethod
    def of(cls, recipe: Recipe, trainee: Trainee) -> Samplers:
        """For a stage that trains `trainee`. Raises EngineError where vLLM is asked for and not installed."""
        rolls_out = trainee.config is recipe.opd and recipe.opd.sampler == "vllm"
        rollouts: Sampler = LocalSampler(recipe, trainee)
        points: ModelSampler = evaluated.LocalSampler(trainee.student, recipe.evaluation.batch_size)
        if rolls_out or recipe.evaluation.sampler == "vllm":
            from cohobate.training.vllm_sampler import VllmSampler

            engine = VllmSampler(recipe, trainee)
            rollouts = engine if rolls_out else rollouts
            points = engine if recipe.evaluation.sampler == "vllm" else points
        return cls(rollouts, points)

    def close(self) -> None:
        self.rollouts.close()
        self.points.close()
