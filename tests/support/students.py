"""Artifacts with a model, as a training stage leaves them, without any training."""

import shutil
from pathlib import Path

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace


def student(root: Path, model: Path) -> Artifact:
    """A finished SFT artifact with a model."""
    recipe = Recipe(name="made")

    def build(workspace: Workspace) -> Outcome:
        shutil.copytree(model, workspace.path / "model")
        return Outcome(metrics={"steps": 1})

    return Store(root).produce("sft", recipe=recipe, version=1, identity={}, parents=[], build=build)
