"""What the training stages share: run the loop, publish the student and what was measured on the way."""

from __future__ import annotations

from cohobate import ledger, progress
from cohobate.chat import student_format
from cohobate.config import Recipe, Training
from cohobate.objectives.base import Objective
from cohobate.points import Points
from cohobate.store import Artifact, Outcome, Workspace
from cohobate.students import LoadedModel, save
from cohobate.training import Run, Source, write_table


def train_and_publish(
    recipe: Recipe,
    stage: str,
    student: LoadedModel,
    source: Source,
    objective: Objective,
    config: Training,
    questions: Artifact,
    workspace: Workspace,
) -> Outcome:
    """Train `student` in place; write model/, metrics.parquet and points.parquet into the workspace."""
    points = Points.of(
        student,
        student_format(recipe),
        questions.path,
        config,
        workspace.scratch,
        stage,
        recipe.evaluation.max_tokens,
        recipe.triples.verifier,
    )
    with progress.bar(stage, config.steps, "steps") as bar:
        run = Run(student, source, objective, config, workspace.scratch, stage, points, bar)
        done = run.train()
    save(student.model, student.tokenizer, workspace.path / "model")
    measured, measuring = points.collected()
    write_table(done.metrics, workspace.path / "metrics.parquet")
    write_table(measured, workspace.path / "points.parquet")
    last = done.metrics[-1] if done.metrics else {}
    metrics = {
        "steps": done.step,
        "final": {name: last[name] for name in ("loss", "reverse_kl", "entropy") if name in last},
        "validation": measured[-1] if measured else None,
    }
    return Outcome(done.step, metrics, ledger.total([*done.ledger, *measuring]))
