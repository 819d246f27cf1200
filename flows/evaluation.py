"""Measure any checkpoint: the deployment `evaluate`."""

from collections.abc import Iterator

from prefect import flow

from cohobate.config import Recipe
from cohobate.evaluation.checkpoints import find
from cohobate.store.artifacts import Artifact
from tasks.evaluation import evaluate as measure
from tasks.notify import notify
from tasks.questions import write_questions
from tasks.run import resolved, run_until


def pipeline(recipe: Recipe, students: list[Artifact]) -> Iterator[Artifact]:
    """The recipe's questions, and the answers to them."""
    yield (questions := write_questions(recipe))
    yield measure(recipe, questions, students)


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def evaluate(checkpoint: str, recipe: Recipe | str | None = None) -> list[Artifact]:
    """Measure a checkpoint, its base and the teacher on the same questions.

    Args:
        checkpoint: Id of an artifact that holds a model, or a Hugging Face folder.
        recipe: Whose questions, evaluation and teacher; empty: those it was trained with. A folder needs one.

    """
    chosen, students = find(checkpoint, resolved(recipe) if recipe else None)
    return run_until(pipeline(chosen, students), "evaluation", chosen)
