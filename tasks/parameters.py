"""What the parameters of a deployment may not do: name code of their sender's choice for the worker to run."""

import os

from prefect.runtime import deployment

from cohobate.config import Recipe
from cohobate.core.errors import RecipeError
from cohobate.core.user_code import is_function_name

ALLOW = "COHOBATE_FUNCTIONS_FROM_PARAMETERS"


def refuse_functions(recipe: Recipe) -> None:
    """Raise RecipeError where this is a deployment's run and the recipe, which it was sent, names a function.

    A recipe that lies on the worker's disk is the operator's own, as is one on the command line. The environment
    variable ALLOW of the worker permits it (1).
    """
    if not deployment.id or os.environ.get(ALLOW) == "1":
        return
    # All of several teachers have the same form of answers.
    named = {
        "triples.verifier": recipe.triples.verifier.name,
        "teacher.answer": recipe.teacher.answer,
        "questions.source": recipe.questions.source,
    }
    for setting, value in named.items():
        if value and is_function_name(value):
            raise RecipeError(
                f"{setting}: '{value}' is code, which no parameter of a deployment may name; put the recipe into a "
                f"file of the worker's and give its path, or start the worker with {ALLOW}=1"
            )
