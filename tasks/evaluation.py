"""The evaluation stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import evaluation
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("evaluation", retries=1, gpu=always)
def evaluate(recipe: Recipe, questions: Artifact, students: list[Artifact], *, alone: bool = False) -> Artifact:
    """Measure the students, and unless `alone` base and teacher, on the same questions."""
    return evaluation.evaluate(recipe, questions, students, alone=alone)
