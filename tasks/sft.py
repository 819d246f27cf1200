"""The sft stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import sft
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("sft", retries=1, gpu=always)
def train_sft(recipe: Recipe, triples: Artifact, questions: Artifact, start: Artifact | None = None) -> Artifact:
    """Fine-tune the student, or the one that `start` ended with, on the triples."""
    return sft.train(recipe, triples, questions, start)
