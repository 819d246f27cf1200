"""Distil a teacher into a student: questions -> triples -> sft -> opd -> evaluation -> report.

python -m flows.distill arithmetic [--set opd.steps=50] [--until sft]
"""

import sys
from collections.abc import Iterator

from cohobate.config import Recipe, StageName
from cohobate.store.artifacts import Artifact
from tasks.run import cohobate_flow, run_flow, run_recipe
from tasks.stages import evaluate, train_opd, train_sft, write_questions, write_report, write_triples


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The stages in order; each takes the finished artifacts of earlier ones."""
    yield (questions := write_questions(recipe))
    yield (triples := write_triples(recipe, questions))
    yield (start := train_sft(recipe, triples, questions))
    yield (student := train_opd(recipe, start, questions, triples))
    yield (scores := evaluate(recipe, questions, [start, student]))
    yield write_report(recipe, [questions, triples, start, student, scores])


@cohobate_flow()
def distill(recipe: Recipe | str = "arithmetic", until: StageName = "report") -> list[Artifact]:
    """Run the recipe, given by its name, its path, or in full, up to and including the stage `until`."""
    return run_recipe(pipeline, recipe, until)


if __name__ == "__main__":
    sys.exit(run_flow(distill, sys.argv[1:]))
