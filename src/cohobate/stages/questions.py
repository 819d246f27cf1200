"""Questions: from the embedded world, files or documents, in disjoint splits -> questions.parquet.

set_aside.parquet beside it, where `questions.special_tokens` asks for that: the questions that hold a special token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.core.errors import QuestionsError
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

VERSION = 3


def write(recipe: Recipe) -> Artifact:
    """Write the questions of `recipe`. Raises QuestionsError when they cannot be read or used."""
    from cohobate.sources.read import identity

    special = _special_tokens(recipe)
    made = Store().produce(
        "questions",
        recipe=recipe,
        version=VERSION,
        identity={**identity(recipe.questions), **({"set_aside": special} if special else {})},
        parents=[],
        build=lambda workspace: _build(recipe, special, workspace),
    )
    if recipe.teacher.privileged is not None:
        _require_names(recipe, made)
    return made


def _require_names(recipe: Recipe, questions: Artifact) -> None:
    """Refuse what the teacher is to be shown and the questions do not carry, before anything else is made of them."""
    import polars as pl

    from cohobate.models.privileged import require_names

    columns = ["gold_answer", "gold_response", "meta"]
    require_names(recipe, pl.read_parquet(questions.path / "questions.parquet", columns=columns))


def _build(recipe: Recipe, special: Sequence[str], workspace: Workspace) -> Outcome:
    from cohobate.core.parquet import write_table
    from cohobate.core.schema import QUESTIONS
    from cohobate.sources.read import read

    table = read(recipe.questions)
    metrics: dict[str, Any] = {"repeated": table.repeated, "unsupported": dict(table.unsupported)}
    questions = table.questions
    if special:
        questions, metrics["set_aside"] = _set_aside(questions, special, workspace)
    write_table(questions, QUESTIONS, workspace.path / "questions.parquet")
    counts = dict(questions.group_by("split").len().sort("split").iter_rows())
    return Outcome(rows=len(questions), metrics={"splits": counts, **metrics})


def _special_tokens(recipe: Recipe) -> list[str]:
    """The special tokens of the recipe's models, whose questions are set aside; none where they stay."""
    if recipe.questions.special_tokens == "text":
        return []
    from cohobate.models.loading import model_path
    from cohobate.models.template_revision import special_tokens

    teachers = [each.teacher for each in recipe.by_teacher.values()]
    theirs = [each.model if each.is_folder else each.tokenizer for each in teachers]
    names = [name for name in (*theirs, recipe.student.model) if name is not None]
    return sorted(set().union(*(special_tokens(model_path(name)) for name in names)))


def _set_aside(questions: pl.DataFrame, special: Sequence[str], workspace: Workspace) -> tuple[pl.DataFrame, int]:
    """The questions without those that hold a special token, and how many these are. Raises QuestionsError for all."""
    import polars as pl

    from cohobate.core import progress
    from cohobate.core.atomic_files import write_parquet_atomic
    from cohobate.core.conversation import queries, written_by_people

    pattern = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
    texts = map(written_by_people, queries(questions))
    tokens = pl.Series([match[0] if (match := re.search(pattern, text)) else None for text in texts])
    tokens = tokens.cast(pl.String).alias("special_token")
    held_out = questions.with_columns(tokens).filter(tokens.is_not_null())
    if len(held_out) == len(questions):
        raise QuestionsError("every question holds a special token; set questions.special_tokens = 'text'")
    columns = ["question_id", "split", "special_token", "question"]
    write_parquet_atomic(held_out.select(columns).to_arrow(), workspace.path / "set_aside.parquet")
    for token, question in held_out.select("special_token", "question").head(1).iter_rows():
        progress.say(
            f"{len(held_out)} of {len(questions)} questions hold a special token, such as {token} in "
            f"{question[:80]!r}, and are set aside (set_aside.parquet)"
        )
    return questions.filter(tokens.is_null()), len(held_out)
