"""Plan of a comparison: for each method and seed the recipe of its student, and the student it goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cohobate.config import BASE, START, Compare, Method, Recipe
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError


@dataclass(frozen=True, eq=False)
class StudentRun:
    """One student to train. start: `start`, `base`, or the method whose student of the same seed it goes on from."""

    method: str
    seed: int
    stage: Literal["sft", "opd"]
    start: str
    recipe: Recipe

    @property
    def name(self) -> str:
        return f"{self.method} seed {self.seed}"


def chosen_methods(compare: Compare) -> dict[str, Method]:
    """The methods of `only` and those that they go on from, each after the one it goes on from."""
    chosen: dict[str, Method] = {}

    def add(name: str) -> None:
        if name in chosen:
            return
        method = compare.methods[name]
        if method.start in compare.methods:
            add(method.start)
        chosen[name] = method

    for name in compare.only or compare.methods:
        add(name)
    return chosen


def plan(recipe: Recipe) -> list[StudentRun]:
    """Every student, seed by seed, each after the one it goes on from.

    Raises RecipeError when the recipe has no [compare], a method's changes make no recipe, or evaluation
    points of two methods would not compare.
    """
    compare = recipe.section(Compare)
    methods = chosen_methods(compare)
    runs = [
        StudentRun(name, seed, method.stage, method.start, _recipe_of(recipe, name, method, seed))
        for seed in range(compare.seeds)
        for name, method in methods.items()
    ]
    _refuse_points_that_do_not_compare(recipe, runs)
    return runs


def _refuse_points_that_do_not_compare(recipe: Recipe, runs: list[StudentRun]) -> None:
    """Curves need evaluation points, measured with the same settings."""
    for field in ("evaluate_questions", "evaluate_temperature"):
        first, *others = ((run.method, getattr(getattr(run.recipe, run.stage), field)) for run in runs)
        if field == "evaluate_questions" and not first[1]:
            raise RecipeError(
                f"recipe {recipe.name}: evaluate_questions is 0 for the method {first[0]}, so there would be no curve "
                "to compare; set it to 1 or more in [sft] and [opd]"
            )
        for name, value in others:
            if value != first[1]:
                raise RecipeError(
                    f"recipe {recipe.name}: {field} is {first[1]:g} for the method {first[0]} and {value:g} for "
                    f"{name}; set it alike in [sft] and [opd], or their accuracies do not compare"
                )


def reference(compare: Compare) -> str:
    """The method that the others are compared with."""
    return compare.reference or next(iter(chosen_methods(compare)))


def from_start(compare: Compare) -> list[str]:
    """The chosen methods that go on from the common start: those whose costs compare."""
    return [name for name, method in chosen_methods(compare).items() if method.start == START]


def from_base(compare: Compare) -> list[str]:
    """The other chosen methods, which begin with the base student, some by way of each other."""
    methods = chosen_methods(compare)

    def root(name: str) -> str:
        start = methods[name].start
        return start if start in (START, BASE) else root(start)

    return [name for name in methods if root(name) == BASE]


def _recipe_of(recipe: Recipe, name: str, method: Method, seed: int) -> Recipe:
    """The recipe of one student: that of the comparison with the changes of its method, and its seed."""
    changes: dict[str, Any] = {"name": f"{recipe.name}.{name}.{seed}", "compare": None}
    changes |= {section: dict(getattr(method, section)) for section in ("triples", "sft", "opd")}
    changes[method.stage].setdefault("seed", getattr(recipe, method.stage).seed)
    changes[method.stage]["seed"] += seed
    if method.stage == "sft":  # no on-policy stage follows, which other settings of sft might exclude
        changes["opd"] |= {"steps": 0, "warmup": 0}
    return changed(recipe, changes, f"recipe {recipe.name}, compare.methods.{name}")
