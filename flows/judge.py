"""Reinforce the classic tiny policy with a judge: questions -> policy -> judge (the page).

python -m flows.judge helpdesk [--set policy.judge.model=...]
"""

import sys
from collections.abc import Iterator

from prefect import flow

from cohobate.config import Recipe, StageName
from cohobate.store.artifacts import Artifact
from tasks.notify import notify
from tasks.policy import study_judge, train_policy
from tasks.questions import write_questions
from tasks.run import resolved, run_flow, run_until


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The stages in order."""
    yield (questions := write_questions(recipe))
    yield (policy := train_policy(recipe, questions))
    yield study_judge(recipe, questions, policy)


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def judge(recipe: Recipe | str = "helpdesk", until: StageName = "report") -> list[Artifact]:
    """Run the recipe (its name, its path, or the whole of it)."""
    chosen = resolved(recipe)
    return run_until(pipeline(chosen), until, chosen)


if __name__ == "__main__":
    sys.exit(run_flow(judge, sys.argv[1:]))
