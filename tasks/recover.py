"""The stages of learning a handbook and recovering from it, as tasks."""

from collections.abc import Sequence

from cohobate.config import Recipe
from cohobate.experiments.recovery import stages
from cohobate.experiments.recovery.arms import Arm, ArmExam
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("prompts")
def write_prompts(recipe: Recipe, rehearsed: Sequence[int] = ()) -> Artifact:
    """Write the chat prompts, with the practice questions of the handbooks `rehearsed` among them."""
    return stages.write_prompts(recipe, rehearsed)


@stage("chat", retries=1, gpu=always)
def answer_chat(recipe: Recipe, prompts: Artifact, reference: Artifact | None = None) -> Artifact:
    """Let the checkpoint before mid-training answer the prompts of the mix."""
    return stages.answer_chat(recipe, prompts, reference)


@stage("midtrain", retries=1, gpu=always)
def midtrain(recipe: Recipe, arm: Arm, number: int, replies: Artifact, reference: Artifact | None = None) -> Artifact:
    """Train on a handbook, mixed with chat."""
    return stages.midtrain(recipe, arm, number, replies, reference)


@stage("exam", retries=1, gpu=always)
def examine(recipe: Recipe, prompts: Artifact, model: Artifact | None = None) -> Artifact:
    """Measure a model on the handbooks and in chat."""
    return stages.examine(recipe, prompts, model)


@stage("recovery")
def write_table(recipe: Recipe, exams: Sequence[ArmExam]) -> Artifact:
    """Write the table of all arms."""
    return stages.write_table(recipe, exams)
