"""Questions: from the embedded world, files or documents, in disjoint splits -> questions.parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.core.errors import QuestionsError
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.sources.table import Read

VERSION = 2
_WORLD = {
    *("source", "train", "fresh", "validation", "test", "hard"),
    *("min_depth", "max_depth", "hard_depth", "story", "seed"),
}


def write(recipe: Recipe) -> Artifact:
    """Write the questions of `recipe`. Raises QuestionsError when they cannot be read or used."""
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe),
        parents=[],
        build=lambda workspace: _build(recipe, workspace),
    )


def _identity(recipe: Recipe) -> dict[str, Any]:
    if recipe.questions.source == "world":
        return {name: value for name, value in recipe.questions.identity().items() if name in _WORLD}
    from cohobate.sources.read import identity

    return identity(recipe.questions)


def _build(recipe: Recipe, workspace: Workspace) -> Outcome:
    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.sources.read import read

    found = _world(recipe) if recipe.questions.source == "world" else read(recipe.questions)
    write_table(found.questions, QUESTIONS, workspace.path / "questions.parquet")
    counts = dict(found.questions.group_by("split").len().sort("split").iter_rows())
    return Outcome(rows=len(found.questions), metrics={"splits": counts, "repeated": found.repeated})


def _world(recipe: Recipe) -> Read:
    import polars as pl

    from cohobate.sources.table import Read, question_id
    from cohobate.sources.world.splits import generate

    config = recipe.questions
    counts = {name: getattr(config, name) for name in ("train", "fresh", "validation", "test", "hard")}
    try:
        rows = [{"question_id": question_id(r["question"]), **r} for r in generate(config, counts)]
    except ValueError as error:
        raise QuestionsError(f"{error}; lower the count or widen the depths") from None
    if not rows:
        raise QuestionsError("the recipe asks for no questions: every count in [questions] is 0")
    return Read(pl.DataFrame(rows).with_columns(pl.col("depth").cast(pl.Int32)))
