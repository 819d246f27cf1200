"""Compare methods from one start: questions -> triples -> sft -> students, each evaluated -> comparison (the page).

python -m flows.compare compare [--set compare.seeds=5] [--set 'compare.only=["opd"]'] [--json]
"""

import sys
from collections.abc import Iterator

from cohobate.config import Recipe
from cohobate.experiments.comparison.runner import ComparisonRunner
from cohobate.store.artifacts import Artifact
from tasks.experiments import AS_TASKS, train_students, write_comparison
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import write_questions


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
    yield from (measured for _, measured in runner.distances())
    yield write_comparison(recipe, runner)


@cohobate_flow()
def compare(recipe: Recipe | str = "compare") -> list[Artifact]:
    """Run the comparison of the recipe, given by its name, its path, or in full."""
    return run_recipe(pipeline, recipe)


if __name__ == "__main__":
    sys.exit(run_flow(compare, sys.argv[1:]))
