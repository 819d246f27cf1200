"""Batches for SFT: seeded epochs over the selected triples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from cohobate.core import progress
from cohobate.core.answer_parsing import parse
from cohobate.core.conversation import Conversation, Query, queries
from cohobate.datasets.export.export import judged_samples
from cohobate.datasets.selection import Selection, SelectionRule, choose, outline, pair
from cohobate.models.chat_template import PromptFormat, completion_text, training_sequence
from cohobate.models.sequence import TrainingSequence
from cohobate.models.thoughts import Opening, fitted
from cohobate.training.distributed import ALONE, World
from cohobate.training.epochs import epoch_batch
from cohobate.training.objectives.preference import Judged
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


@dataclass(frozen=True)
class TaughtTurn:
    """An assistant turn that is learnt: what is asked before it, its text, and whether it ended by itself."""

    question: Query
    completion: str
    ended: bool


def taught_turns(
    triples: pl.DataFrame, prompt_format: PromptFormat, turns: Literal["last", "all"] = "last"
) -> list[TaughtTurn]:
    """The turns that `triples` teach, in order: their responses, and with `all` the assistant's turns before them.

    An earlier turn is learnt once, however many samples its question has. It is a turn of its own, behind the prompt
    that asks for it, since many templates write a turn in another way once it is history: Qwen3's drops its thoughts.
    """
    columns = triples.select("question_id", "response", "rationale", pl.col("answer").fill_null(""), "truncated")
    learnt, seen = [], set[str]()
    for question, row in zip(queries(triples), columns.iter_rows(), strict=True):
        question_id, response, rationale, answer, truncated = row
        if turns == "all" and isinstance(question, Conversation) and question_id not in seen:
            learnt += [TaughtTurn(before, text, True) for before, text in question.answered_turns()]
        seen.add(question_id)
        learnt.append(TaughtTurn(question, completion_text(response, rationale, answer, prompt_format), not truncated))
    return learnt


def training_sequences(
    tokenizer: Any, turns: Sequence[TaughtTurn], prompt_format: PromptFormat, end: int | None = None
) -> list[TrainingSequence]:
    """One training sequence per turn; end: the id behind a whole response, None for the student's own."""
    return [
        training_sequence(tokenizer, turn.question, turn.completion, prompt_format, ended=turn.ended, end=end)
        for turn in turns
    ]


def training_rows(
    tokenizer: Any, triples: pl.DataFrame, prompt_format: PromptFormat, end: int | None = None
) -> list[TrainingSequence]:
    """One training sequence per triple, of its response."""
    return training_sequences(tokenizer, taught_turns(triples, prompt_format), prompt_format, end)


def judged_responses(
    triples: Path,
    rule: SelectionRule,
    tokenizer: Any,
    prompt_format: PromptFormat,
    end: int | None = None,
    *,
    in_pairs: bool,
) -> list[Judged]:
    """The right and wrong responses below the artifact's folder, as `cohobate export --format preference` pairs them.

    Not in pairs: the right ones that `rule` selects, and every wrong one, in the artifact's order.
    """
    samples = judged_samples(triples)
    if in_pairs:
        pairs = pair(samples, Selection(rule)).select("chosen_row", "rejected_row").rows()
        places = [(place, good) for chosen, rejected in pairs for place, good in ((chosen, True), (rejected, False))]
    else:
        right = choose(samples, Selection("correct" if rule == "all" else rule))["row"].to_list()
        wrong = samples.filter(pl.col("verdict") == "incorrect")["row"].to_list()
        places = sorted([*((place, True) for place in right), *((place, False) for place in wrong)])
    responses = pl.read_parquet(triples / "triples.parquet")[[place for place, _ in places]]
    rows = training_rows(tokenizer, responses, prompt_format, end)
    return [Judged(row, good) for row, (_, good) in zip(rows, places, strict=True)]


def with_ghosts(
    tokenizer: Any, triples: pl.DataFrame, prompt_format: PromptFormat, end: int | None = None
) -> pl.DataFrame:
    """The rows of `triples`, each with the token ids of its response as the ghost of a rollout."""
    rows = training_rows(tokenizer, triples, prompt_format, end)
    return triples.with_columns(pl.Series("ghost_ids", [list(row.response) for row in rows]))


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
