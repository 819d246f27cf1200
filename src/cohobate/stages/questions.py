"""Questions: from the embedded world, files or documents, in disjoint splits -> questions.parquet."""

from __future__ import annotations

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

VERSION = 3


def write(recipe: Recipe) -> Artifact:
    """Write the questions of `recipe`. Raises QuestionsError when they cannot be read or used."""
    from cohobate.sources.read import identity

    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity=identity(recipe.questions),
        parents=[],
        build=lambda workspace: _build(recipe, workspace),
    )


def _build(recipe: Recipe, workspace: Workspace) -> Outcome:
    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.sources.read import read

    table = read(recipe.questions)
    write_table(table.questions, QUESTIONS, workspace.path / "questions.parquet")
    counts = dict(table.questions.group_by("split").len().sort("split").iter_rows())
    metrics = {"splits": counts, "repeated": table.repeated, "unsupported": dict(table.unsupported)}
    return Outcome(rows=len(table.questions), metrics=metrics)
