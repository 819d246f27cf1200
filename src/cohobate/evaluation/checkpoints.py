"""The checkpoint of a name: an artifact that holds a model, or a folder."""

from __future__ import annotations

from pathlib import Path

from cohobate.config import Recipe
from cohobate.config.load import changed, make_recipe
from cohobate.core.errors import ModelError
from cohobate.store.artifacts import Artifact, Store


def find(name: str, recipe: Recipe | None) -> tuple[Recipe, list[Artifact]]:
    """(recipe to evaluate it by, students to evaluate beside its base) of an artifact's id or a model's folder.

    recipe: gives questions, evaluation and teacher; None: those of the training. A folder is evaluated as the base of
    `recipe`. Raises ModelError where there is no model, StoreError where there is no such artifact.
    """
    if (Path(name) / "config.json").is_file():
        if recipe is None:
            raise ModelError(f"{name} is a folder, which names no questions; give the recipe to evaluate it by")
        return changed(recipe, {"student": {"model": name}}, f"recipe {recipe.name}, measured on {name}"), []
    if Path(name).is_dir():
        raise ModelError(f"{name} holds no model: there is no config.json in it")
    artifact = Store().open(name)
    if not (artifact.path / "model").is_dir():
        raise ModelError(f"{artifact.id} holds no model; `cohobate ls` lists those of sft and opd")
    own = make_recipe(artifact.manifest.config, f"the recipe of {artifact.id}")
    return recipe or own, [artifact]
