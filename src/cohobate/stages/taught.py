"""The teachers of a recipe as an estimate sees them: their shapes, and their shares of the questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe, Teacher
from cohobate.core.errors import ModelError
from cohobate.models.published_configs import names, published_config


@dataclass(frozen=True)
class Taught:
    """A teacher of the recipe: what lines call it, its settings, its configuration if it is here, its share."""

    label: str
    settings: Teacher
    config: Any | None
    share: float

    @property
    def is_here(self) -> bool:
        """Whether its weights are on this machine, or are those of the student."""
        return self.config is not None or self.settings.follow is not None


def taught_by(recipe: Recipe, shares: Mapping[str, float] | None = None) -> list[Taught]:
    """The teachers of a recipe. shares: as `estimate` takes them. Raises ModelError for an unknown shape."""
    teachers = {name: own.teacher for name, own in recipe.by_teacher.items()}
    given = shares or (recipe.route.share if recipe.route else None) or dict.fromkeys(teachers, 1 / len(teachers))
    return [
        Taught(recipe.label(name), each, shape(each.model) if each.is_folder else None, given.get(name, 0.0))
        for name, each in teachers.items()
    ]


def shape(name: str) -> Any:
    """The configuration of a model: its folder's, or the published one. Raises ModelError when there is neither."""
    from cohobate.models.loading import model_path, read_config

    published = published_config(name)
    if published is not None:
        return published
    try:
        folder = model_path(name)
    except ModelError:
        raise ModelError(
            f"the shape of '{name}' is not known: it is no folder here, and none of {', '.join(names())}; give a "
            "folder with its config.json"
        ) from None
    return read_config(folder)
