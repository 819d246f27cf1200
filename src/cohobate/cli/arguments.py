"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cohobate.cli import completion

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Path or name of a recipe.", autocompletion=completion.recipes)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe."),
]
ArtifactName = Annotated[
    str,
    typer.Argument(metavar="ARTIFACT", help="An artifact's id, or its beginning.", autocompletion=completion.artifacts),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def recipe_arguments(recipe: str, overrides: Sequence[str] | None) -> list[str]:
    """The recipe and its overrides as arguments of a flow's program."""
    return [recipe, *(part for override in overrides or [] for part in ("--set", override))]
