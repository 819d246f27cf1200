"""Batches of the teacher's own text with its scores: for logit distillation, and for the off-policy steps of GKD."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import LoadedModel
from cohobate.training.scoring.local import Asked, Scores
from cohobate.training.triple_source import TripleSource, training_rows
from cohobate.training.types import Source, StepBatch


class ScoredTripleSource(Source):
    """`batch` triples a step, each token with what the teacher says to it in that place.

    A triple that comes up again is scored again, since whole distributions are too large to keep; a replay is not.
    """

    def __init__(
        self,
        student: LoadedModel,
        triples: pl.DataFrame,
        prompt_format: PromptFormat,
        scores: Scores,
        batch: int,
        seed: int,
        stage: str,
    ) -> None:
        self.rows, self.questions = (
            training_rows(student.tokenizer, triples, prompt_format),
            triples["question"].to_list(),
        )
        self.order = TripleSource(self.rows, batch, seed)
        self.scores, self.stage, self.world = scores, stage, scores.world

    def batch(self, step: int) -> StepBatch:
        chosen = list(enumerate(self.order.chosen(step)))
        mine = self.world.share(chosen)
        known = self.scores.kept(step, [place for place, _ in mine])
        if self.world.total(int(known is None)) or known is None:
            asked = [Asked(place, self.questions[i], self.rows[i].response) for place, i in mine]
            known = self.scores.score(step, asked)
        rows = [replace(self.rows[i], features=said) for (_, i), said in zip(mine, known, strict=True)]
        prompts = [self.scores.prompt_tokens(self.questions[i]) for _, i in chosen]
        responses = [len(self.rows[i].response) for _, i in chosen]
        return StepBatch(rows, [self.scores.entry(self.stage, prompts, responses)])

    def forget(self, step: int) -> None:
        self.scores.forget(step)


class MixedSource(Source):
    """A share of the steps, drawn by the seed, from one source, the others from another."""

    def __init__(self, often: Source, otherwise: Source, share: float, seed: int) -> None:
        self.often, self.otherwise, self.share, self.seed = often, otherwise, share, seed

    def batch(self, step: int) -> StepBatch:
        drawn = np.random.default_rng([self.seed, step]).random()
        return (self.often if drawn < self.share else self.otherwise).batch(step)

    def forget(self, step: int) -> None:
        self.often.forget(step)
        self.otherwise.forget(step)
