"""What is read: chat prompts, handbooks with their questions, and the batches that mix passages with chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Documents, Handbook, Questions, Recover
from cohobate.core.errors import QuestionsError
from cohobate.core.fingerprint import hash_file
from cohobate.models.chat_template import PromptFormat, encode, training_sequence
from cohobate.models.sequence import TrainingSequence
from cohobate.sources import documents, files
from cohobate.sources.files import find_tables
from cohobate.sources.read import identity as questions_identity
from cohobate.sources.read import read
from cohobate.sources.table import COLUMNS, question_id
from cohobate.sources.world.chat import generate
from cohobate.training.triple_source import TripleSource
from cohobate.training.types import Source, StepBatch

# How an answer to a practice question is written: as the exams read it.
_ANSWER = "Answer: {answer}"


def _file(path: str) -> Questions:
    return Questions(source="file", path=path)


def chat_identity(config: Recover) -> dict[str, Any]:
    """What changes the chat prompts. Raises QuestionsError when their file is not there."""
    if config.chat != "world":
        return questions_identity(_file(config.chat))
    return {name: getattr(config, name) for name in ("chat", "chat_prompts", "fresh_prompts", "exam_prompts")}


def chat_prompts(config: Recover) -> pl.DataFrame:
    """The prompts with the columns of schema.QUESTIONS: train for the mix, fresh for recovery, test for the exam."""
    if config.chat != "world":
        return read(_file(config.chat)).questions
    counts = {"train": config.chat_prompts, "fresh": config.fresh_prompts, "test": config.exam_prompts}
    rows = [{"question_id": question_id(row["question"]), **row} for row in generate(0, counts)]
    frame = pl.DataFrame(rows, schema_overrides={"depth": pl.Int32, "gold_response": pl.String}).select(COLUMNS)
    # A prompt that is asked again is another row, answered with noise of its own.
    again = pl.int_range(pl.len()).over("question_id")
    return frame.with_columns(
        question_id=pl.when(again > 0).then(pl.format("{}-{}", "question_id", again)).otherwise("question_id")
    )


def handbook_identity(book: Handbook) -> dict[str, Any]:
    """What the handbook and its questions hold, by content."""
    found: dict[str, Any] = {"documents": files.find_documents(book.documents).identity()}
    for name, path in (("practice", book.practice), ("exam", book.exam)):
        found[name] = None if path is None else [hash_file(file) for _, file in find_tables(path).files]
    return found


def examined(book: Handbook, number: int) -> pl.DataFrame:
    """The handbook's exam as test questions of the kind `handbook-1` or `handbook-2`."""
    return _asked(book.exam, f"handbook-{number}", "test")


def practised(book: Handbook, number: int, split: str) -> pl.DataFrame:
    """The handbook's practice questions, none where there is no such file."""
    if book.practice is None:
        return examined(book, number).clear()
    return _asked(book.practice, f"handbook-{number}", split)


def _asked(path: str, kind: str, split: str) -> pl.DataFrame:
    frame = read(_file(path)).questions.select(COLUMNS)
    if missing := frame["gold_answer"].null_count():
        raise QuestionsError(f"{path} has {missing} questions without gold_answer; questions about a handbook need one")
    return frame.with_columns(kind=pl.lit(kind), split=pl.lit(split))


def document_rows(book: Handbook, words: int, tokenizer: Any, prompt_format: PromptFormat) -> list[TrainingSequence]:
    """Passages, learnt whole as plain text, and practice questions, learnt as chat with the loss on the answer."""
    settings = Documents(words=words, overlap=0)
    rows = []
    for _, path in files.find_documents(book.documents).files:
        markdown = path.suffix.lower() != ".txt"
        for passage in documents.passages(documents.read(path), settings, markdown=markdown):
            rows.append(TrainingSequence([*encode(tokenizer, passage.text), tokenizer.eos_token_id], 1))
    for question, gold in practised(book, 1, "train").select("question", "gold_answer").iter_rows():
        rows.append(training_sequence(tokenizer, question, _ANSWER.format(answer=gold), prompt_format, ended=True))
    return rows


def chat_rows(replies: Path, tokenizer: Any, prompt_format: PromptFormat) -> list[TrainingSequence]:
    """The earlier self's replies as training sequences; one that was cut does not teach to stop."""
    columns = pl.read_parquet(replies / "replies.parquet").select("question", "response", "finish_reason")
    rows = []
    for question, response, finish in columns.iter_rows():
        rows.append(training_sequence(tokenizer, question, response, prompt_format, ended=finish == "stop"))
    return rows


class Mixed(Source):
    """Batches of which a fixed share of the sequences comes from the documents, the others from chat."""

    def __init__(
        self, book: list[TrainingSequence], chat: list[TrainingSequence], share: float, batch: int, seed: int
    ) -> None:
        counts = round(batch * share), batch - round(batch * share)
        self.parts = [
            TripleSource(rows, count, seed + place)
            for place, (rows, count) in enumerate(zip((book, chat), counts, strict=True))
            if count
        ]

    def batch(self, step: int) -> StepBatch:
        return StepBatch([row for part in self.parts for row in part.batch(step).rows])
