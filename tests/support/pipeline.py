"""The stages in order without Prefect, here or as a program to kill: `python -m tests.support.pipeline tiny`."""

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.stages.functions import pipeline
from cohobate.store.artifacts import STAGES, Artifact

SMALL = ["runtime.threads=1", "evaluation.decodings=['greedy']", "evaluation.max_tokens=24"]


@dataclass(frozen=True)
class Finished:
    """A data folder and the artifacts in it, by stage."""

    root: Path
    artifacts: dict[str, Artifact]


def train_stages(recipe: Recipe) -> dict[str, Artifact]:
    """The stages of `recipe` up to the last that trains."""
    return {artifact.stage: artifact for artifact in islice(pipeline(recipe), STAGES.index("opd") + 1)}


def run_stages(recipe: Recipe) -> dict[str, Artifact]:
    """Every stage of `recipe`, as flows/distill.py orders them."""
    return {artifact.stage: artifact for artifact in pipeline(recipe)}


if __name__ == "__main__":
    run_stages(load_recipe(sys.argv[1], sys.argv[2:]))
