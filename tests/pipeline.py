"""The stages in order without Prefect, in this process or as a program to kill: `python -m tests.pipeline tiny`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from cohobate.config import Recipe
from cohobate.recipes import load_recipe
from cohobate.stages import evaluation, opd, questions, report, sft, triples
from cohobate.store import Artifact

SMALL = ["runtime.threads=1", "evaluation.decodings=['greedy']", "evaluation.max_tokens=24"]


@dataclass(frozen=True)
class Finished:
    """A data folder and the artifacts in it, by stage."""

    root: Path
    artifacts: dict[str, Artifact]


def run_stages(recipe: Recipe) -> dict[str, Artifact]:
    """Every stage of `recipe`, as flows/distill.py orders them."""
    asked = questions.write(recipe)
    taught = triples.write(recipe, asked)
    start = sft.train(recipe, taught, asked)
    student = opd.train(recipe, start, asked)
    scores = evaluation.evaluate(recipe, asked, [start, student])
    artifacts = [asked, taught, start, student, scores]
    page = report.write(recipe, artifacts)
    return {artifact.stage: artifact for artifact in [*artifacts, page]}


if __name__ == "__main__":
    run_stages(load_recipe(sys.argv[1], sys.argv[2:]))
