"""Triples by many machines: a Ray cluster shares the requests to the teacher, and the responses become the triples.

RAY_ADDRESS=ray://head:10001 python -m flows.sharded RECIPE     # without it, a cluster of this machine

Each machine has this package, the keys, and COHOBATE_DATA on a file system that all share. `pip install cohobate[ray]`.
"""

import os
import sys
from collections.abc import Iterator

from prefect_ray import RayTaskRunner

from cohobate.config import Recipe, StageName
from cohobate.store.artifacts import Artifact
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import ask_in_shards, write_questions, write_triples


def pipeline(recipe: Recipe, shards: int) -> Iterator[Artifact]:
    """The questions, then the triples, whose responses the shards have stored before."""
    yield (questions := write_questions(recipe))
    ask_in_shards(recipe, questions, shards)
    yield write_triples(recipe, questions)


@cohobate_flow(task_runner=RayTaskRunner(address=os.environ.get("RAY_ADDRESS")))
def sharded(recipe: Recipe | str = "arithmetic", until: StageName = "triples", shards: int = 4) -> list[Artifact]:
    """Write the recipe's questions and triples; as many shards as given ask the teacher at the same time."""
    return run_recipe(lambda chosen: pipeline(chosen, shards), recipe, until)


if __name__ == "__main__":
    sys.exit(run_flow(sharded, sys.argv[1:]))
