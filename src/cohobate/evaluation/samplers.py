"""Where a model is sampled to be evaluated, by `evaluation.sampler`: in this process, or in a vLLM engine beside it.

It is the one place that chooses, for the students and the teacher of an evaluation, for suites and for exams. A student
in training is sampled by the engine of its rollouts; see training/samplers.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from cohobate.config import Recipe
from cohobate.core import progress
from cohobate.models.loading import LoadedModel, ModelOutline, load, outline
from cohobate.models.sampling import sampler
from cohobate.models.sampling.decoding import Sampled, SamplingJob

Role = Literal["student", "teacher"]


class ModelSampler(Protocol):
    """A model that responds to prompts, in this process or in an engine beside it."""

    @property
    def model(self) -> LoadedModel | ModelOutline:
        """Its tokenizer, its config and the ids that end its responses."""
        ...

    def sample(self, job: SamplingJob) -> list[Sampled]:
        """One response to each of the job's prompts, in order. Raises CohobateError for a model that cannot."""
        ...

    def close(self) -> None:
        """End what it has started."""
        ...


class LocalSampler:
    """Samples a loaded model, `batch_size` responses at a time."""

    def __init__(self, model: LoadedModel, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size

    def sample(self, job: SamplingJob) -> list[Sampled]:
        greedy = job.decoding.temperature == 0
        return sampler.sample(
            self.model.model,
            job.prompts,
            job.decoding,
            None if greedy else sampler.uniforms(job.seed, job.keys, job.decoding.max_tokens),
            eos_ids=job.eos_ids,
            pad_id=self.model.pad_id,
            batch_size=self.batch_size,
            done=job.done,
        )

    def close(self) -> None:
        """It has started nothing."""


def open_sampler(recipe: Recipe, folder: Path, role: Role) -> ModelSampler:
    """The sampler of the model in `folder`, which is asked as the recipe's student or teacher.

    Raises ModelError for a folder that holds no model, or one that vLLM would sample otherwise than it is; EngineError
    where vLLM is not installed, or does not start with it.
    """
    template = getattr(recipe, role).template
    if recipe.evaluation.sampler == "local":
        return LocalSampler(load(folder, device=recipe.runtime.device, template=template), recipe.evaluation.batch_size)
    from cohobate.teachers.vllm.trial import tried_engine

    settings = recipe.teacher if role == "teacher" else recipe.opd.vllm
    model, rows = outline(folder, template=template), recipe.evaluation.batch_size
    engine, words = tried_engine(model, settings, role, rows, recipe.runtime)
    progress.say(words)
    return engine
