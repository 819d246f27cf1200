"""Questions written by the teacher, about the passage of a document in its prompt."""

from __future__ import annotations

import re

import polars as pl

from cohobate.core.answer_parsing import after_thinking
from cohobate.sources.base import question_id

_BEFORE = re.compile(r"\s*(?:[#*_>\s]*)question[*_]*\s*[:：][*_]*\s*", re.IGNORECASE)
# The question ends at a blank line, or where the next line begins with a word of the form.
_END = re.compile(r"\n\s*\n|\n(?=\s*[#*_]*(?:steps?|reasoning|solution|answer)\b)|(?<=[?？])\s*\n", re.IGNORECASE)


def take_question(text: str) -> tuple[str | None, str]:
    """The question at the beginning of a response, and the rest; None where there is none."""
    visible = after_thinking(text)
    opening = _BEFORE.match(visible)
    if not opening:
        return None, text
    rest = visible[opening.end() :]
    end = _END.search(rest)
    question, after = (rest[: end.start()], rest[end.end() :]) if end else (rest, "")
    question = " ".join(question.split()).strip("*_ ")
    return (question, after.strip()) if question and after.strip() else (None, text)


def with_written_questions(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the written question in `question` and the rest of the response in `text`; null where there is none.

    frame: columns text, reasoning, question, question_id. reasoning becomes null: it is about how to write the
    question, not about its answer. question_id becomes that of the written question.
    """
    parts = [take_question(text) for text in frame["text"]]
    questions = [question for question, _ in parts]
    return frame.with_columns(
        pl.Series("question", questions, dtype=pl.String),
        pl.Series("question_id", [q and question_id(q) for q in questions], dtype=pl.String),
        pl.Series("text", [rest if question else None for question, rest in parts], dtype=pl.String),
        pl.lit(None, dtype=pl.String).alias("reasoning"),
    )
