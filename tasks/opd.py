"""The opd stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("opd", retries=1, gpu=always)
def train_opd(recipe: Recipe, start: Artifact, questions: Artifact, triples: Artifact) -> Artifact:
    """Distil on-policy: the student rolls out, the teacher scores."""
    return opd.train(recipe, start, questions, triples)
