"""Measure any checkpoint: the deployment `evaluate`."""

from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.evaluation.checkpoints import find
from cohobate.store.artifacts import Artifact
from tasks.run import cohobate_flow, resolved, run_stages
from tasks.stages import evaluate as measure
from tasks.stages import write_questions


def pipeline(recipe: Recipe, students: list[Artifact]) -> Iterator[Artifact]:
    """The recipe's questions, and the answers to them."""
    yield (questions := write_questions(recipe))
    yield measure(recipe, questions, students)


@cohobate_flow()
def evaluate(checkpoint: str, recipe: Recipe | str | None = None) -> list[Artifact]:
    """Measure a checkpoint, its base and the teacher on the same questions.

    Args:
        checkpoint: Id of an artifact that holds a model, or a Hugging Face folder.
        recipe: Whose questions, evaluation and teacher; empty: those it was trained with. A folder needs one.

    """
    chosen, students = find(checkpoint, resolved(recipe) if recipe else None)
    return run_stages(pipeline(chosen, students), chosen, "evaluation")
