"""The questions stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import questions
from cohobate.store.artifacts import Artifact
from tasks.stage import stage


@stage("questions")
def write_questions(recipe: Recipe) -> Artifact:
    """Write the questions of the recipe in disjoint splits."""
    return questions.write(recipe)
