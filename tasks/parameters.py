"""What the parameters of a deployment may not do: name code of their sender's choice for the worker to run."""

import os
from collections.abc import Iterator
from typing import Any

from prefect.runtime import deployment

from cohobate.config import Recipe
from cohobate.core.errors import RecipeError
from cohobate.core.user_code import is_function_name

ALLOW = "COHOBATE_FUNCTIONS_FROM_PARAMETERS"

# The settings that take module:function; a verifier is its name, or a table with it. Of several teachers all have the
# same form of answers.
_SETTINGS = ("triples.verifier", "triples.verifier.name", "teacher.answer", "questions.source")


def refuse_functions(recipe: Recipe) -> None:
    """Raise RecipeError where this is a deployment's run and the recipe, which it was sent, names a function.

    So do the changes that a method of [compare] makes, whether it is run or not. A recipe that lies on the worker's
    disk is the operator's own, as is one on the command line. The environment variable ALLOW of the worker permits it
    (1).
    """
    if not deployment.id or os.environ.get(ALLOW) == "1":
        return
    for setting, value in _functions(recipe):
        raise RecipeError(
            f"{setting}: '{value}' is code, which no parameter of a deployment may name; put the recipe into a "
            f"file of the worker's and give its path, or start the worker with {ALLOW}=1"
        )


def _functions(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each setting with module:function, and that."""
    teacher, methods = recipe.teacher, recipe.compare.methods if recipe.compare else {}
    tables: dict[str, dict[str, Any]] = {"": {**recipe.model_dump(mode="json"), "teacher": {"answer": teacher.answer}}}
    tables |= {f"compare.methods.{name}.": method.model_dump(mode="json") for name, method in methods.items()}
    for where, table in tables.items():
        for setting in _SETTINGS:
            value: Any = table
            for key in setting.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, str) and is_function_name(value):
                yield where + setting.removesuffix(".name"), value
