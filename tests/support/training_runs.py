"""Training runs of a few rows on the shipped base, and the gradients with which they step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cohobate.config import Training
from cohobate.core.progress import Bar
from cohobate.models.loading import LoadedModel, load
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import TokenLoss
from cohobate.store.artifacts import Artifact
from cohobate.training.loop import Run
from cohobate.training.objectives.cross_entropy import cross_entropy
from cohobate.training.trainee import Trainee
from cohobate.training.types import Metrics, RunState, Source, StepBatch

TRIPLES = pl.DataFrame(
    {
        "question": ["What is 3 + 4?", "What is (12 - 5) * 3, in words?", "Why?"],
        "response": ["3 + 4 = 7. The answer is 7.", "12 - 5 = 7, then 7 * 3 = 21, and so on", "7"],
        "rationale": ["3 + 4 = 7.", "12 - 5 = 7, then 7 * 3 = 21", None],
        "answer": ["7", None, "7"],
        "question_id": ["a", "b", "c"],
        "truncated": [False, True, False],
    }
)


Gradients = dict[str, torch.Tensor]


def base() -> LoadedModel:
    return load("world/base", device="cpu")


@dataclass
class Given(Source):
    """A source of the same rows at every step; `before` is called first."""

    rows: list[TrainingSequence]
    before: Callable[[int], None] = lambda step: None

    def batch(self, step: int) -> StepBatch:
        self.before(step)
        return StepBatch(self.rows)


def interrupt_at(fatal: int) -> Callable[[int], None]:
    def before(step: int) -> None:
        if step == fatal:
            raise KeyboardInterrupt

    return before


@contextmanager
def run_interrupted_at(step: int) -> Iterator[None]:
    """Any run that is made within it is interrupted before it takes `step`; fails where none was."""
    take_step = Run.take_step

    def fatal(run: Run, state: RunState) -> None:
        if state.step == step:
            raise KeyboardInterrupt
        take_step(run, state)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "take_step", fatal)
        yield


def published_weights(made: Artifact) -> dict[str, torch.Tensor]:
    """The weights of the model in an artifact of a training stage, by name."""
    found: dict[str, torch.Tensor] = load_file(made.path / "model" / "model.safetensors")
    return found


def config(**changes: Any) -> Training:
    """One step without warm-up, decay or clipping, unless changed."""
    plain = {"steps": 1, "warmup": 0, "weight_decay": 0.0, "clip": 1e9}
    return Training.model_validate({**plain, **changes})


def run_of(
    student: LoadedModel,
    source: Given,
    folder: Path,
    objective: TokenLoss = cross_entropy,
    evaluated: list[int] | None = None,
    **changes: Any,
) -> Run:
    points: list[int] = [] if evaluated is None else evaluated
    folder.mkdir(exist_ok=True)
    trainee, bar = Trainee(student, config(**changes), "base"), Bar("sft", 1, "steps")
    return Run(trainee, source, objective, folder, "sft", lambda at, _: points.append(at), bar)


@contextmanager
def taken_gradients(student: LoadedModel) -> Iterator[Gradients]:
    """The gradients with which an optimizer takes its newest step."""
    taken: Gradients = {}

    def take(*_: object) -> None:
        taken.update({name: p.grad.clone() for name, p in student.model.named_parameters()})

    hook = register_optimizer_step_pre_hook(take)
    try:
        yield taken
    finally:
        hook.remove()


def weights(student: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in student.model.named_parameters()}


def one_step(
    student: LoadedModel,
    rows: list[TrainingSequence],
    folder: Path,
    objective: TokenLoss = cross_entropy,
    **changes: Any,
) -> tuple[Gradients, Metrics]:
    """The gradients with which the optimizer takes a step on `rows`, and the step's metrics."""
    with taken_gradients(student) as gradients:
        done = run_of(student, Given(rows), folder, objective, **changes).train()
    return gradients, done.metrics[0]


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert min(float(value.abs().max()) for value in expected.values()) > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=3e-6)
