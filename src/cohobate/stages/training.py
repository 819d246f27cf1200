"""The common part of the training stages: run the loop, publish the student and its metrics."""

from __future__ import annotations

from cohobate.config import Recipe
from cohobate.core import progress
from cohobate.evaluation.samplers import ModelSampler
from cohobate.models.chat_template import student_format
from cohobate.models.token_loss import TokenLoss
from cohobate.store import compute_ledger
from cohobate.store.artifacts import Artifact, Outcome, Workspace
from cohobate.training.loop import Run
from cohobate.training.metrics import write_table
from cohobate.training.trainee import Trainee
from cohobate.training.types import Source
from cohobate.training.validation import Validation


def train_and_publish(
    recipe: Recipe,
    stage: str,
    trainee: Trainee,
    source: Source,
    objective: TokenLoss,
    questions: Artifact,
    points: ModelSampler,
    workspace: Workspace,
) -> Outcome:
    """Train the student in place; write model/, metrics.parquet and points.parquet into the workspace.

    points: samples the student at evaluation points, with the weights of that moment.
    """
    config = trainee.config
    validation = Validation.of(
        points,
        student_format(recipe),
        questions.path,
        config,
        workspace.scratch,
        stage,
        recipe.evaluation,
        recipe.triples.verifier,
    )
    with progress.bar(stage, config.steps, "steps") as bar:
        run = Run(trainee, source, objective, workspace.scratch, stage, validation, bar, validation.holds)
        trained = run.train()
    if not trainee.world.first:
        return Outcome()
    trainee.publish(workspace.path)
    measured, validation_work = validation.points()
    write_table(trained.metrics, workspace.path / "metrics.parquet")
    write_table(measured, workspace.path / "points.parquet")
    last = trained.metrics[-1] if trained.metrics else {}
    metrics = {
        "steps": trained.step,
        "final": {name: last[name] for name in ("loss", "reverse_kl", "entropy") if name in last},
        "validation": measured[-1] if measured else None,
        "alarm": trained.alarm,
    }
    return Outcome(trained.step, metrics, compute_ledger.total([*trained.ledger, *validation_work]))
