"""The triples stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import triples
from cohobate.store import Artifact
from tasks.stage import stage


@stage("triples", retries=2, gpu=lambda recipe: recipe.teacher.is_folder)
def write_triples(recipe: Recipe, questions: Artifact) -> Artifact:
    """Ask the teacher every training question and publish the triples."""
    return triples.write(recipe, questions)
