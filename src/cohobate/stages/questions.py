"""Questions: from the embedded world or a file, in disjoint splits -> questions.parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.errors import QuestionsError
from cohobate.fingerprint import hash_file
from cohobate.store import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 1
_WORLD_ONLY = (
    "train",
    "fresh",
    "validation",
    "test",
    "hard",
    "min_depth",
    "max_depth",
    "hard_depth",
    "story",
)


def write(recipe: Recipe) -> Artifact:
    """Write the questions of `recipe`. Raises QuestionsError when the file cannot be used."""
    return Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe),
        parents=[],
        build=lambda workspace: _build(recipe, workspace),
    )


def _identity(recipe: Recipe) -> dict[str, Any]:
    identity = recipe.questions.identity()
    if recipe.questions.source == "world":
        return {k: v for k, v in identity.items() if k not in ("columns", "split")}
    path = Path(recipe.questions.path or "")
    if not path.is_file():
        raise QuestionsError(f"the questions file {path} does not exist; set questions.path")
    kept = {k: v for k, v in identity.items() if k not in _WORLD_ONLY}
    return {**kept, "suffix": path.suffix.lower(), "content": hash_file(path)}


def _build(recipe: Recipe, workspace: Workspace) -> Outcome:
    from cohobate.files import write_parquet_atomic
    from cohobate.schema import QUESTIONS

    frame = _world(recipe) if recipe.questions.source == "world" else _file(recipe)
    table = frame.to_arrow().select(QUESTIONS.names).cast(QUESTIONS)
    write_parquet_atomic(table, workspace.path / "questions.parquet")
    counts = dict(frame.group_by("split").len().sort("split").iter_rows())
    return Outcome(rows=len(frame), metrics={"splits": counts})


def _world(recipe: Recipe) -> pl.DataFrame:
    import polars as pl

    from cohobate.question_files import question_id
    from cohobate.world.splits import generate

    config = recipe.questions
    counts = {name: getattr(config, name) for name in ("train", "fresh", "validation", "test", "hard")}
    try:
        rows = [{"question_id": question_id(r["question"]), **r} for r in generate(config, counts)]
    except ValueError as error:
        raise QuestionsError(f"{error}; lower the count or widen the depths") from None
    if not rows:
        raise QuestionsError("the recipe asks for no questions: every count in [questions] is 0")
    return pl.DataFrame(rows).with_columns(pl.col("depth").cast(pl.Int32))


def _file(recipe: Recipe) -> pl.DataFrame:
    from cohobate.question_files import read_questions

    return read_questions(recipe.questions)
