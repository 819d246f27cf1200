"""Questions whose prompts fill a model's context: they are set aside, and never run beyond the model's positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from cohobate.core import progress
from cohobate.core.conversation import Query, queries
from cohobate.core.model_shape import context_of
from cohobate.models.chat_template import PromptFormat, question_ids
from cohobate.models.sequence import TrainingSequence

# No tokenizer makes more tokens of a text than it has bytes, but for a few.
_FEW = 16
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
    readers = [Reader(model.tokenizer, how, context_of(model.config)) for model, how in models]
    return with_room(stage, questions, queries(questions), readers, room=room)


@dataclass(frozen=True)
class Reader:
    """A model that reads prompts of a format; context: the tokens that it can read, None for no limit."""

    tokenizer: Any
    prompt_format: PromptFormat
    context: int | None


def with_room(
    stage: str, questions: pl.DataFrame, rows: Sequence[Query], readers: Sequence[Reader], *, room: int
) -> pl.DataFrame:
    """As `set_aside`, for what is asked in place of each of `questions`: one of `rows`."""
    texts = questions["question"].to_list()
    rooms = [_Room(reader, room) for reader in readers]
    keep = [all(each.holds(row) for each in rooms) for row in rows]
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


class _Room:
    """The context of one model, and what its template adds to a question."""

    def __init__(self, reader: Reader, room: int) -> None:
        self.tokenizer, self.how, self.room = reader.tokenizer, reader.prompt_format, room
        self.context = reader.context
        self.added = len(question_ids(self.tokenizer, "?", self.how)) + _FEW if self.context else 0

    def holds(self, question: Query) -> bool:
        """Whether the prompt of `question` leaves room; a short text is not tokenized for that."""
        if self.context is None:
            return True
        if isinstance(question, str) and len(question.encode()) + self.added + self.room <= self.context:
            return True
        return len(question_ids(self.tokenizer, question, self.how)) + self.room <= self.context
