"""What can be said of a recipe before its first stage, without loading anything: its models and trackers are there."""

from __future__ import annotations

from cohobate.config import Recipe
from cohobate.core import launch
from cohobate.core.errors import ModelError, RecipeError
from cohobate.report.trackers import require_usable


def require_present(recipe: Recipe, until: str) -> None:
    """Raise a UserError where a model that the stages up to `until` need is not there, or trackers cannot be used.

    Takes milliseconds, so every run begins with it: nothing is spent on a recipe whose last stages cannot be done.
    """
    from cohobate.models.loading import model_path

    models: dict[str, str] = {}
    if until != "questions":
        models |= {f"{recipe.label(name)}.model": own.teacher.model for name, own in _in_folders(recipe)}
    if until not in ("questions", "triples"):
        models["student.model"] = recipe.student.model
    for setting, name in models.items():
        try:
            model_path(name)
        except ModelError as error:
            raise ModelError(f"{setting}: {error}") from None
    require_usable(recipe)
    needs_server = any(each.served_scores and not each.teacher.base_urls for each in recipe.by_teacher.values())
    if needs_server and launch.size() > launch.local_size():
        raise RecipeError(
            "teacher.scoring = 'server' without teacher.base_url starts a server that listens on its own machine, and "
            "torchrun has processes on others; serve the teacher where all of them reach it, and set teacher.base_url"
        )


def _in_folders(recipe: Recipe) -> list[tuple[str, Recipe]]:
    return [(name, own) for name, own in recipe.by_teacher.items() if own.teacher.is_folder]
