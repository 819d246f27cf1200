"""Compare methods from one start: questions -> triples -> sft -> students, each evaluated -> comparison (the page).

python -m flows.compare compare [--set compare.seeds=5] [--set 'compare.only=["opd"]'] [--json]
"""

import sys
from collections.abc import Iterator

from prefect import flow

from cohobate.config import Recipe, StageName
from cohobate.experiments.comparison.runner import ComparisonRunner
from cohobate.store.artifacts import Artifact
from tasks.comparison import AS_TASKS, train_students, write_comparison
from tasks.notify import notify
from tasks.questions import write_questions
from tasks.run import resolved, run_flow, run_until


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The start, then every student with its scores, in the plan's order."""
    yield (questions := write_questions(recipe))
    runner = ComparisonRunner(recipe, questions, AS_TASKS)
    yield from runner.all_triples()
    yield runner.start()
    yield runner.start_scores()
    train_students(recipe, questions)
    for run in runner.runs:
        yield runner.student(run)
        yield runner.scores(run)
    yield write_comparison(recipe, runner)


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def compare(recipe: Recipe | str = "compare", until: StageName = "report") -> list[Artifact]:
    """Run the comparison of the recipe (its name, its path, or the whole of it)."""
    chosen = resolved(recipe)
    return run_until(pipeline(chosen), None, chosen)


if __name__ == "__main__":
    sys.exit(run_flow(compare, sys.argv[1:]))
