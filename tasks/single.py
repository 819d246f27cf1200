"""The stages of the single-prompt experiment as tasks."""

from collections.abc import Sequence

from cohobate.config import Recipe
from cohobate.experiments.single_prompt import stages
from cohobate.experiments.single_prompt.arms import Scored
from cohobate.store.artifacts import Artifact
from tasks.stage import always, stage


@stage("one-prompt")
def choose_prompt(recipe: Recipe, questions: Artifact) -> Artifact:
    """Take the one prompt out of the fresh questions."""
    return stages.one_prompt(recipe, questions)


@stage("without-rationales")
def without_rationales(recipe: Recipe, triples: Artifact) -> Artifact:
    """Cut the rationales of a share of the start's triples."""
    return stages.bare(recipe, triples)


@stage("held-out", retries=1, gpu=always)
def measure(recipe: Recipe, questions: Artifact, model: Artifact) -> Artifact:
    """Measure a student on held-out questions."""
    return stages.held_out(recipe, questions, model)


@stage("single")
def compare_prompts(recipe: Recipe, prompt: Artifact, found: Sequence[Scored]) -> Artifact:
    """Write the table of all arms."""
    return stages.write(recipe, prompt, found)
