"""Questions whose prompts fill a model's context: they are set aside, and never run beyond the model's positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import polars as pl

from cohobate.core import progress
from cohobate.core.conversation import Query, queries
from cohobate.core.model_shape import context_of
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.sequence import TrainingSequence

# No tokenizer makes more tokens of a text than it has bytes, but for a few; what a template adds is far below this.
_TEMPLATE = 1024
_SHOWN = 60


class Asked(Protocol):
    """A loaded model, or its outline."""

    @property
    def config(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...


def set_aside(
    stage: str, questions: pl.DataFrame, models: Sequence[tuple[Asked, PromptFormat]], *, room: int = 1
) -> pl.DataFrame:
    """`questions` without those whose prompt leaves one of `models` less than `room` tokens; says how many they are.

    questions: has the column question, and that of conversations where there are such.
    """
    rows, texts = queries(questions), questions["question"].to_list()
    keep = [all(_fits(model, each, how, room) for model, how in models) for each in rows]
    beyond = [text for text, fits in zip(texts, keep, strict=True) if not fits]
    if beyond:
        shown = " ".join(beyond[0].split())[:_SHOWN]
        progress.say(
            f"{stage}: {len(beyond)} of {len(rows)} questions are set aside, since their prompts leave no room in the "
            f"model's context, such as {shown!r}"
        )
    return questions.filter(pl.Series(keep, dtype=pl.Boolean))


def fitting_rows(stage: str, rows: Sequence[TrainingSequence], model: Asked) -> list[bool]:
    """Whether each row fits into the context of `model`; says how many do not."""
    context = context_of(model.config)
    keep = [context is None or len(row.ids) <= context for row in rows]
    if not all(keep):
        progress.say(
            f"{stage}: {keep.count(False)} of {len(rows)} rows are set aside, since prompt and response are longer "
            f"than the {context} tokens of the student's context"
        )
    return keep


def _fits(model: Asked, question: Query, how: PromptFormat, room: int) -> bool:
    context = context_of(model.config)
    if context is None:
        return True
    around = how.template + (how.system or "") + how.separator
    if isinstance(question, str) and len(question.encode()) + len(around.encode()) + _TEMPLATE + room <= context:
        return True
    return len(question_ids(model.tokenizer, question, how)) + room <= context
