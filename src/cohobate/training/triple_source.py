"""Batches for SFT: seeded epochs over the selected triples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from cohobate.core import progress
from cohobate.core.answer_parsing import parse
from cohobate.datasets.selection import Selection, SelectionRule, choose, outline
from cohobate.models.chat_template import PromptFormat, completion_text, training_sequence
from cohobate.models.sequence import TrainingSequence
from cohobate.models.thoughts import Opening, fitted
from cohobate.training.distributed import ALONE, World
from cohobate.training.epochs import epoch_batch
from cohobate.training.types import Source, StepBatch


def select(triples: Path, rule: SelectionRule, opening: Opening | None = None) -> pl.DataFrame:
    """The triples below the artifact's folder that `rule` selects (see `Sft.select`), in the artifact's order.

    opening: with which the student's prompts end; where that lets no thought follow, a response that was cut in its
    thought is left out, since nothing of it is to be learnt.
    """
    chosen = choose(outline(triples), Selection(rule))
    samples = pl.read_parquet(triples / "triples.parquet")
    samples = samples.join(chosen, on="sample_id", how="semi", maintain_order="left")
    if opening is None or not opening.closed:
        return samples
    speaks = [bool(fitted(response, opening).strip()) for response in samples["response"]]
    if left_out := speaks.count(False):
        progress.say(f"{left_out} of {len(samples)} responses were cut in their thoughts, and this student has none")
    return samples.filter(pl.Series(speaks, dtype=pl.Boolean))


def training_rows(
    tokenizer: Any, triples: pl.DataFrame, prompt_format: PromptFormat, end: int | None = None
) -> list[TrainingSequence]:
    """One training sequence per triple; end: the id behind a whole response, None for the student's own."""
    columns = triples.select("question", "response", "rationale", pl.col("answer").fill_null(""), "truncated")
    rows = []
    for question, response, rationale, answer, truncated in columns.iter_rows():
        completion = completion_text(response, rationale, answer, prompt_format)
        ended = not truncated
        rows.append(training_sequence(tokenizer, question, completion, prompt_format, ended=ended, end=end))
    return rows


def with_ghosts(
    tokenizer: Any, triples: pl.DataFrame, prompt_format: PromptFormat, end: int | None = None
) -> pl.DataFrame:
    """The questions of `triples`, each with the token ids of its response as the ghost of a rollout."""
    rows = training_rows(tokenizer, triples, prompt_format, end)
    return triples.select("question_id", "question", "gold_answer").with_columns(
        pl.Series("ghost_ids", [list(row.response) for row in rows])
    )


def with_gold_ghosts(
    tokenizer: Any, questions: pl.DataFrame, prompt_format: PromptFormat, end: int | None = None
) -> pl.DataFrame:
    """Those of `questions` that have a gold response, each with its token ids as the ghost of a rollout."""
    written = questions.filter(pl.col("gold_response").str.strip_chars() != "").with_columns(response="gold_response")
    parts = [parse(text) for text in written["response"]]
    parsed = written.with_columns(
        pl.Series("rationale", [part.rationale for part in parts], dtype=pl.String),
        pl.Series("answer", [part.answer for part in parts], dtype=pl.String),
        truncated=False,
    )
    return with_ghosts(tokenizer, parsed, prompt_format, end)


class TripleSource(Source):
    """`batch` sequences per step; a step's sequences depend on its number and the seed alone."""

    def __init__(self, rows: list[TrainingSequence], batch: int, seed: int, world: World = ALONE) -> None:
        self.rows, self.size, self.seed, self.world = rows, batch, seed, world

    def batch(self, step: int) -> StepBatch:
        chosen = epoch_batch(self.seed, step, self.size, len(self.rows))
        return StepBatch([self.rows[i] for i in self.world.share(chosen)])
