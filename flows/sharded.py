"""Triples by many machines: a Ray cluster shares the requests to the teacher, and the answers become the triples.

RAY_ADDRESS=ray://head:10001 python -m flows.sharded RECIPE     # without it, a cluster of this machine

Each machine has this package, the keys, and COHOBATE_DATA on a file system that all share. `pip install cohobate[ray]`.
"""

import os
import sys
from collections.abc import Iterator

from prefect import flow
from prefect_ray import RayTaskRunner

from cohobate.config import Recipe, StageName
from cohobate.store.artifacts import Artifact
from tasks.notify import notify
from tasks.questions import write_questions
from tasks.run import resolved, run_flow, run_until
from tasks.triples import ask_in_shards, write_triples


def pipeline(recipe: Recipe, shards: int) -> Iterator[Artifact]:
    """Questions, the shards of their answers, triples."""
    yield (questions := write_questions(recipe))
    ask_in_shards(recipe, questions, shards)
    yield write_triples(recipe, questions)


@flow(
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
    task_runner=RayTaskRunner(address=os.environ.get("RAY_ADDRESS")),
)
def sharded(recipe: Recipe | str = "arithmetic", until: StageName = "triples", shards: int = 4) -> list[Artifact]:
    """Write the recipe's questions and triples, with the teacher asked in so many shards at a time."""
    chosen = resolved(recipe)
    return run_until(pipeline(chosen, shards), until, chosen)


if __name__ == "__main__":
    sys.exit(run_flow(sharded, sys.argv[1:]))
