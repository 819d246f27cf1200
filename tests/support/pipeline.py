"""The stages in order without Prefect, here or as a program to kill: `python -m tests.support.pipeline tiny`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.stages import evaluation, opd, questions, report, sft, triples
from cohobate.store.artifacts import Artifact

SMALL = ["runtime.threads=1", "evaluation.decodings=['greedy']", "evaluation.max_tokens=24"]


@dataclass(frozen=True)
class Finished:
    """A data folder and the artifacts in it, by stage."""

    root: Path
    artifacts: dict[str, Artifact]


def train_stages(recipe: Recipe) -> dict[str, Artifact]:
    """The stages of `recipe` up to the last that trains."""
    asked = questions.write(recipe)
    taught = triples.write(recipe, asked)
    start = sft.train(recipe, taught, asked)
    student = opd.train(recipe, start, asked, taught)
    return {artifact.stage: artifact for artifact in [asked, taught, start, student]}


def run_stages(recipe: Recipe) -> dict[str, Artifact]:
    """Every stage of `recipe`, as flows/distill.py orders them."""
    made = train_stages(recipe)
    made["evaluation"] = evaluation.evaluate(recipe, made["questions"], [made["sft"], made["opd"]])
    made["report"] = report.write(recipe, list(made.values()))
    return made


if __name__ == "__main__":
    run_stages(load_recipe(sys.argv[1], sys.argv[2:]))
