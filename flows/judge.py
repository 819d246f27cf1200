"""Reinforce the classic tiny policy with a judge: questions -> policy -> judge (the page).

python -m flows.judge helpdesk [--set policy.judge.model=...]
"""

import sys
from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from tasks.experiments import study_judge, train_policy
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import write_questions


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The stages in order."""
    yield (questions := write_questions(recipe))
    yield (policy := train_policy(recipe, questions))
    yield study_judge(recipe, questions, policy)


@cohobate_flow()
def judge(recipe: Recipe | str = "helpdesk") -> list[Artifact]:
    """Run the recipe, given by its name, its path, or in full."""
    return run_recipe(pipeline, recipe)


if __name__ == "__main__":
    sys.exit(run_flow(judge, sys.argv[1:]))
