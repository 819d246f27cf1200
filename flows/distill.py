"""Distil a teacher into a student: questions -> triples -> sft -> opd -> evaluation -> report.

python -m flows.distill arithmetic [--set opd.steps=50] [--until sft]
"""

import sys
from collections.abc import Iterator

from prefect import flow

from cohobate.config import Recipe, StageName
from cohobate.store.artifacts import Artifact
from tasks.evaluation import evaluate
from tasks.notify import notify
from tasks.opd import train_opd
from tasks.questions import write_questions
from tasks.report import write_report
from tasks.run import resolved, run_flow, run_until
from tasks.sft import train_sft
from tasks.triples import write_triples


def pipeline(recipe: Recipe) -> Iterator[Artifact]:
    """The stages in order; each takes the finished artifacts of earlier ones."""
    yield (questions := write_questions(recipe))
    yield (triples := write_triples(recipe, questions))
    yield (start := train_sft(recipe, triples, questions))
    yield (student := train_opd(recipe, start, questions, triples))
    yield (scores := evaluate(recipe, questions, [start, student]))
    yield write_report(recipe, [questions, triples, start, student, scores])


@flow(persist_result=False, on_failure=[notify], on_crashed=[notify])
def distill(recipe: Recipe | str = "arithmetic", until: StageName = "report") -> list[Artifact]:
    """Run the recipe (its name, its path, or the whole of it) up to and including the stage `until`."""
    chosen = resolved(recipe)
    return run_until(pipeline(chosen), until, chosen)


if __name__ == "__main__":
    sys.exit(run_flow(distill, sys.argv[1:]))
