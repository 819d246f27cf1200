"""The stages of learning a handbook and recovering from it, as tasks."""

from collections.abc import Sequence

from cohobate.config import Recipe
from cohobate.experiments.recovery import stages, table_stage
from cohobate.experiments.recovery.arms import Arm
from cohobate.experiments.recovery.table import Examined
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("prompts")
def write_prompts(recipe: Recipe, practised: Sequence[int] = ()) -> Artifact:
    """Write the chat prompts, with the practice questions of the handbooks `practised` among those to roll out on."""
    return stages.prompts(recipe, practised)


@stage("chat", retries=1, gpu=always)
def answer_chat(recipe: Recipe, asked: Artifact, earlier: Artifact | None = None) -> Artifact:
    """Let the earlier self answer the prompts of the mix."""
    return stages.chat(recipe, asked, earlier)


@stage("midtrain", retries=1, gpu=always)
def midtrain(recipe: Recipe, arm: Arm, number: int, replies: Artifact, earlier: Artifact | None = None) -> Artifact:
    """Read a handbook, mixed with chat."""
    return stages.midtrain(recipe, arm, number, replies, earlier)


@stage("exam", retries=1, gpu=always)
def examine(recipe: Recipe, asked: Artifact, model: Artifact | None = None) -> Artifact:
    """Measure what a model knows of the handbooks, and what it has kept."""
    return stages.exam(recipe, asked, model)


@stage("recovery")
def write_table(recipe: Recipe, found: Sequence[Examined]) -> Artifact:
    """Write the table of all arms."""
    return table_stage.write(recipe, found)
