"""The triples stage as a task."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait

from cohobate.config import Recipe
from cohobate.stages import triples
from cohobate.store.artifacts import Artifact
from tasks.secrets import keys_from_blocks
from tasks.stage import stage


@stage("triples", retries=2, gpu=lambda recipe: recipe.teacher.is_folder)
def write_triples(recipe: Recipe, questions: Artifact) -> Artifact:
    """Ask the teacher every training question and publish the triples."""
    return triples.write(recipe, questions)


@task(name="shard", task_run_name="shard {number} of {of}", retries=2, cache_policy=NO_CACHE, persist_result=False)
def _ask_shard(recipe: Recipe, questions: Artifact, number: int, of: int) -> int:
    keys_from_blocks(recipe)
    return triples.ask_shard(recipe, questions, number, of)


def ask_in_shards(recipe: Recipe, questions: Artifact, shards: int) -> None:
    """Have the task runner's machines ask, a shard each; what a shard could not get, `write_triples` asks for."""
    wait([_ask_shard.submit(recipe, questions, number, shards) for number in range(shards)])
