"""Data of the recovery experiment: chat prompts, handbooks with questions, and batches that mix passages with chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Documents, Handbook, Questions, Recover
from cohobate.core.conversation import queries
from cohobate.core.errors import QuestionsError
from cohobate.core.fingerprint import hash_file
from cohobate.models.chat_template import PromptFormat, training_sequence
from cohobate.models.end_of_response import taught_end
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import encode
from cohobate.sources import documents, files
from cohobate.sources.files import find_tables
from cohobate.sources.read import identity as questions_identity
from cohobate.sources.read import read
from cohobate.sources.table import frame_of
from cohobate.sources.world.chat import generate
from cohobate.training.triple_source import TripleSource
from cohobate.training.types import Source, StepBatch

# Response to a practice question, in the form in which the exams look for the answer.
_ANSWER = "Answer: {answer}"


def _file(path: str) -> Questions:
    return Questions(source="file", path=path)


def chat_identity(config: Recover) -> dict[str, Any]:
    """Identity of the chat prompts. Raises QuestionsError when their file is not there."""
    if config.chat != "world":
        return questions_identity(_file(config.chat))
    return {name: getattr(config, name) for name in ("chat", "chat_prompts", "fresh_prompts", "exam_prompts")}


def chat_prompts(config: Recover) -> pl.DataFrame:
    """The prompts with the columns of schema.QUESTIONS: train for the mix, fresh for recovery, test for the exam."""
    if config.chat != "world":
        return read(_file(config.chat)).questions
    counts = {"train": config.chat_prompts, "fresh": config.fresh_prompts, "test": config.exam_prompts}
    frame = frame_of([*generate(0, counts)])
    # A repeated prompt is a row with an id of its own, so that its replies are sampled with other noise.
    repetition = pl.int_range(pl.len()).over("question_id")
    return frame.with_columns(
        question_id=pl.when(repetition > 0).then(pl.format("{}-{}", "question_id", repetition)).otherwise("question_id")
    )


def handbook_identity(book: Handbook) -> dict[str, Any]:
    """Content hashes of the handbook's documents, practice and exam."""
    identity: dict[str, Any] = {"documents": files.find_documents(book.documents).identity()}
    for name, path in (("practice", book.practice), ("exam", book.exam)):
        identity[name] = None if path is None else [hash_file(file) for _, file in find_tables(path).files]
    return identity


def exam_questions(book: Handbook, number: int) -> pl.DataFrame:
    """The handbook's exam as test questions of the kind `handbook-1` or `handbook-2`."""
    return _handbook_questions(book.exam, f"handbook-{number}", "test")


def practice_questions(book: Handbook, number: int, split: str) -> pl.DataFrame:
    """The handbook's practice questions; no rows where it has no such file."""
    if book.practice is None:
        return exam_questions(book, number).clear()
    return _handbook_questions(book.practice, f"handbook-{number}", split)


def _handbook_questions(path: str, kind: str, split: str) -> pl.DataFrame:
    frame = read(_file(path)).questions
    if missing := frame["gold_answer"].null_count():
        raise QuestionsError(f"{path} has {missing} questions without gold_answer; questions about a handbook need one")
    return frame.with_columns(kind=pl.lit(kind), split=pl.lit(split))


def document_sequences(
    book: Handbook, words: int, tokenizer: Any, prompt_format: PromptFormat
) -> list[TrainingSequence]:
    """Passages as plain text with the loss on all tokens, practice questions as chat with the loss on the answer."""
    settings = Documents(words=words, overlap=0)
    rows = []
    for _, path in files.find_documents(book.documents).files:
        for passage in documents.read_passages(path, settings):
            rows.append(TrainingSequence([*encode(tokenizer, passage.text), taught_end(tokenizer)], 1))
    practice = practice_questions(book, 1, "train")
    for question, gold in zip(queries(practice), practice["gold_answer"], strict=True):
        rows.append(training_sequence(tokenizer, question, _ANSWER.format(answer=gold), prompt_format, ended=True))
    return rows


def chat_sequences(replies: Path, tokenizer: Any, prompt_format: PromptFormat) -> list[TrainingSequence]:
    """The reference's replies as training sequences; a reply cut at the token limit has no end token."""
    frame, rows = pl.read_parquet(replies / "replies.parquet"), []
    for question, response, finish in zip(queries(frame), frame["response"], frame["finish_reason"], strict=True):
        rows.append(training_sequence(tokenizer, question, response, prompt_format, ended=finish == "stop"))
    return rows


class MixedSource(Source):
    """Batches with a fixed share of sequences from the documents; the others are chat."""

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
