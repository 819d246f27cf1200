"""The conversation under which the teacher scores: the student's question, with what only the teacher is shown.

    q(. | s_t, c): c is the privileged context. The response's ids are those that the student wrote; the prompt before
    them is the teacher's own.

The student's prompts are made of the question alone, elsewhere, and none of this reaches them. (Snell et al. 2022,
"Learning by Distilling Context"; Vapnik and Vashist 2009, "A new learning paradigm: learning using privileged
information".)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Privileged, Recipe, filled
from cohobate.core import progress
from cohobate.core.conversation import Conversation, Message, Query, queries
from cohobate.core.errors import QuestionsError
from cohobate.models.chat_template import PromptFormat, scoring_format, student_format

if TYPE_CHECKING:
    import polars as pl

# The longest label of a verdict: what is left of the feedback where there is no room for its reason.
SHORTEST_FEEDBACK = "undecided"
_FEEDBACK = "feedback"
_COLUMNS = ("gold_answer", "gold_response")
_META = ("meta", "question_meta")  # of questions, and of triples
_SHOWN = 12  # names in a message


def format_of_scoring(recipe: Recipe, student_tokenizer: Any) -> PromptFormat:
    """The format of the prompts under which training has the student's tokens scored.

    A teacher that is the student itself (`teacher.follow`) reads as the student does. With a privileged context the
    conversations of `Shown` are whole, and the format adds nothing to them.
    """
    how = scoring_format(recipe, student_tokenizer) if recipe.teacher.follow is None else student_format(recipe)
    return how if recipe.teacher.privileged is None else replace(how, template="{question}", system=None)


@dataclass(frozen=True)
class Shown:
    """What the teacher is shown of a question; template and system: those that it has where `context` gives none."""

    context: Privileged | None = None
    template: str = "{question}"
    system: str | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Shown:
        """What the recipe says; its own prompt is the student's where the teacher is the student itself."""
        reader = recipe.teacher if recipe.teacher.follow is None else recipe.student
        return cls(recipe.teacher.privileged, reader.prompt, reader.system)

    @property
    def uses_feedback(self) -> bool:
        """Whether the verdict on a rollout is shown."""
        return self.context is not None and self.context.uses_feedback

    @property
    def names(self) -> list[str]:
        """The names that a question must have a value for."""
        return [] if self.context is None else [name for name in self.context.names if name != _FEEDBACK]

    def query(self, question: Query, values: Mapping[str, str], feedback: str = SHORTEST_FEEDBACK) -> Query:
        """What the teacher is asked in place of `question`; values: of `names`."""
        if self.context is None:
            return question
        conversation = Conversation.of_text(question) if isinstance(question, str) else question
        every = {**values, "question": conversation.last, _FEEDBACK: feedback}
        if self.context.prompt is None:
            text = self.template.replace("{question}", conversation.last)
        else:
            text = filled(self.context.prompt, every)
        system = self.system if self.context.system is None else filled(self.context.system, every)
        conversation = _with_examples(conversation.with_last(text).under(system), self.context)
        return conversation.last if conversation.is_text else conversation

    def with_values(self, stage: str, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that have a value for every name; says how many have none. Raises QuestionsError where all lack one.

        frame: questions or triples.
        """
        import polars as pl

        if not self.names or frame.is_empty():
            return frame
        missing = [lacking(self.names, row) for row in _rows(frame)]
        keep = pl.Series([not names for names in missing], dtype=pl.Boolean)
        if not keep.any():
            raise QuestionsError(
                f"{stage}: no question has a value for {{{missing[0][0]}}}, which teacher.privileged names; "
                "correct the questions' columns, or the name"
            )
        if count := int((~keep).sum()):
            names = sorted({name for each in missing for name in each})
            progress.say(
                f"{stage}: {count} of {len(frame)} rows are set aside, since they have no value for "
                f"{' or '.join(f'{{{name}}}' for name in names)}, which the teacher is shown"
            )
        return frame.filter(keep)

    def triples_with_values(self, stage: str, triples: pl.DataFrame, questions: Path) -> pl.DataFrame:
        """As `with_values`, with the gold responses of the triples' questions, of the artifact's folder `questions`."""
        import polars as pl

        if "gold_response" in self.names:
            frame = pl.read_parquet(questions / "questions.parquet", columns=["question_id", "gold_response"])
            triples = triples.join(frame, on="question_id", how="left", maintain_order="left")
        return self.with_values(stage, triples)

    def rows(self, frame: pl.DataFrame) -> list[dict[str, str]]:
        """The values of `names` for each row."""
        if not self.names:
            return [{}] * len(frame)
        return [values_of(row) for row in _rows(frame)]

    def queries(self, frame: pl.DataFrame) -> list[Query]:
        """What the teacher is asked for each row, with the shortest feedback."""
        pairs = zip(queries(frame), self.rows(frame), strict=True)
        return [self.query(question, values) for question, values in pairs]


def require_names(recipe: Recipe, questions: pl.DataFrame) -> None:
    """Refuse a name in teacher.privileged that none of `questions` has a value for. Raises QuestionsError."""
    names, present = set(Shown.of(recipe).names), dict[str, None]()
    for row in _rows(questions) if names else ():
        present |= dict.fromkeys(values_of(row))
        if names <= present.keys():
            return
    if names:
        name = sorted(names - present.keys())[0]
        carried = [f"{{{each}}}" for each in list(present)[:_SHOWN]]
        raise QuestionsError(
            f"teacher.privileged names {{{name}}}, which no question has (they have {{question}}"
            f"{''.join(f', {each}' for each in carried)}); correct the name, or add such a column to the questions"
        )


def values_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The values of a question or a triple by the names under which a prompt shows them; blank ones are left out."""
    values = {name: row.get(name) for name in _COLUMNS}
    for column in _META:
        written = json.loads(row.get(column) or "{}")
        values = {**(written if isinstance(written, dict) else {}), **values}
    texts = {name: _text(value) for name, value in values.items() if value is not None}
    return {name: text for name, text in texts.items() if text.strip()}


def lacking(names: Iterable[str], row: Mapping[str, Any]) -> list[str]:
    """Those of `names` that the row has no value for."""
    values = values_of(row)
    return [name for name in names if name not in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(frame: pl.DataFrame) -> Iterable[dict[str, Any]]:
    columns = [name for name in (*_COLUMNS, *_META) if name in frame.columns]
    return frame.select(columns).iter_rows(named=True)


def _with_examples(conversation: Conversation, context: Privileged) -> Conversation:
    """The examples as turns between the system message and the conversation."""
    turns: list[Message] = []
    for example in context.examples:
        turns += [Message("user", example.question), Message("assistant", example.response)]
    begin = int(conversation.system is not None)
    messages: Sequence[Message] = conversation.messages
    return Conversation((*messages[:begin], *turns, *messages[begin:]))


def share_of_mentions(texts: Sequence[str], mentions: Sequence[str]) -> float:
    """The share of `texts` that speak of what only the teacher is shown."""
    words = [mention.casefold() for mention in mentions]
    speaking = sum(any(word in text.casefold() for word in words) for text in texts)
    return speaking / max(1, len(texts))
