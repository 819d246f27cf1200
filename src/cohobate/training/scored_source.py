"""Batches of given responses with the teacher's scores: for logit distillation, and for the off-policy steps of GKD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohobate.core import progress
from cohobate.core.conversation import Query
from cohobate.core.errors import SelectionError
from cohobate.models.sequence import TrainingSequence
from cohobate.training.epochs import epoch_batch
from cohobate.training.scoring.base import Scorer, ScoringInput
from cohobate.training.types import Source, StepBatch


def scorable(
    stage: str,
    rows: Sequence[TrainingSequence],
    questions: Sequence[Query],
    scorer: Scorer,
    teachers: Sequence[str | None] | None = None,
) -> list[bool]:
    """Whether the teacher's context has room for each row, an answer to one of `questions`; says how many do not fit.

    teachers: the name of each row's, of several. Raises SelectionError where none does.
    """
    named = teachers or [None] * len(rows)
    inputs = (ScoringInput(0, q, row.response, name) for q, row, name in zip(questions, rows, named, strict=True))
    keep = [scorer.has_room(item) for item in inputs]
    if rows and not any(keep):
        raise SelectionError(
            "every triple is longer than the context of the teacher that scores it; ask for shorter responses "
            "(triples.max_tokens), or choose a teacher with a longer context"
        )
    if not all(keep):
        progress.say(
            f"{stage}: {keep.count(False)} of {len(rows)} rows are set aside, since prompt and response are longer "
            "than the teacher's context"
        )
    return keep


class ScoredTripleSource(Source):
    """`batch` sequences per step, each of an answer to one of `questions`, with the teacher's scores of its tokens.

    A triple that comes up again is scored again, since whole distributions are too large to keep; a replay is not.
    """

    def __init__(
        self,
        rows: Sequence[TrainingSequence],
        questions: Sequence[Query],
        scorer: Scorer,
        batch: int,
        seed: int,
        stage: str,
        teachers: Sequence[str | None] | None = None,
    ) -> None:
        self.teachers = teachers or [None] * len(rows)
        self.rows, self.questions, self.size, self.seed = rows, questions, batch, seed
        self.scorer, self.stage, self.world = scorer, stage, scorer.world

    def batch(self, step: int) -> StepBatch:
        """The sequences of `step`, with the teacher's scores: saved ones of a replay, else new ones."""
        chosen = epoch_batch(self.seed, step, self.size, len(self.rows))
        every = [
            ScoringInput(place, self.questions[i], self.rows[i].response, self.teachers[i])
            for place, i in enumerate(chosen)
        ]
        inputs = self.world.share(every)
        scores = self.scorer.load(step, inputs)
        if self.world.total(int(scores is None)) or scores is None:
            scores = self.scorer.score(step, inputs)
        rows = [
            self.rows[chosen[item.row]].with_features(**own.features())
            for item, own in zip(inputs, scores, strict=True)
        ]
        return StepBatch(rows, self.scorer.entries(self.stage, every, [self.scorer.prompt_tokens(i) for i in every]))

    def forget(self, step: int) -> None:
        self.scorer.forget(step)


class MixedSource(Source):
    """A share of the steps, drawn by the seed, from `first`, the others from `second`."""

    def __init__(self, first: Source, second: Source, share: float, seed: int) -> None:
        self.first, self.second, self.share, self.seed = first, second, share, seed

    def batch(self, step: int) -> StepBatch:
        return self._chosen(step).batch(step)

    def holds(self, step: int) -> bool:
        return self._chosen(step).holds(step)

    def forget(self, step: int) -> None:
        self.first.forget(step)
        self.second.forget(step)

    def _chosen(self, step: int) -> Source:
        number = np.random.default_rng([self.seed, step]).random()
        return self.first if number < self.share else self.second
