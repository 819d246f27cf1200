"""The triples of a recipe from its questions, and what the stage wrote."""

from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.stages import questions, triples
from cohobate.store.artifacts import Artifact


def changed(recipe: Recipe, **sections: dict[str, Any]) -> Recipe:
    values = recipe.model_dump()
    for name, changes in sections.items():
        values[name].update(changes)
    return Recipe.model_validate(values)


def make(recipe: Recipe) -> Artifact:
    return triples.write(recipe, questions.write(recipe))


def table(artifact: Artifact, name: str = "triples") -> pl.DataFrame:
    return pl.read_parquet(artifact.path / f"{name}.parquet")


def paid(artifact: Artifact) -> dict[str, int]:
    """Responses by who paid for them."""
    return {entry["paid"]: entry["sequences"] for entry in artifact.manifest.ledger}
