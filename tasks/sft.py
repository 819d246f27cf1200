"""The sft stage as a task."""

from cohobate.config import Recipe
from cohobate.stages import sft
from cohobate.store import Artifact
from tasks.stage import always, stage


@stage("sft", retries=1, gpu=always)
def train_sft(recipe: Recipe, triples: Artifact, questions: Artifact) -> Artifact:
    """Fine-tune the student on the triples."""
    return sft.train(recipe, triples, questions)
