"""Batches for the preference objectives: judged responses, with the coefficients that the student's scores give them.

The reference's log-probabilities are computed while the student is the reference, persisted, and read again by every
step that needs them and by a run that was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cohobate.core.errors import CohobateError
from cohobate.core.fingerprint import hash_value
from cohobate.core.sealed_files import is_whole, replacing_sealed
from cohobate.models.logprobs import TokenScores, score
from cohobate.models.memory_room import Room
from cohobate.models.model_cost import cost_of
from cohobate.models.sequence import TrainingSequence
from cohobate.store import compute_ledger
from cohobate.training.epochs import epoch_batch
from cohobate.training.objectives.policy_gradient import LOG_RATIO_BOUND
from cohobate.training.objectives.preference import (
    Comparison,
    GivenPreference,
    Judged,
    RolloutPreference,
    mismatched,
    weigh,
)
from cohobate.training.rollout_source import RolloutSource
from cohobate.training.trainee import Trainee
from cohobate.training.types import Metrics, ScoredRollout, Source, StepBatch

# Sequences of a part.
_PART = 32
# Sequences of a file of the start's log-probabilities: what a kill makes it score again.
_FILE = 1024
_LOGPROBS, _SEQUENCES = "logprobs", "sequences"


def _digest(rows: Sequence[TrainingSequence]) -> str:
    return hash_value([[row.context, *row.ids] for row in rows])


class StudentScorer:
    """Log-probabilities of given sequences by the student as it is now; each process scores its share."""

    def __init__(self, stage: str, trainee: Trainee) -> None:
        self.stage, self.trainee, self.world = stage, trainee, trainee.world
        self.cost = cost_of(trainee.student.model.config)
        self.room = Room(trainee.config.tokens_per_batch, "tokens", f"{stage}, scoring")

    def score(self, rows: Sequence[TrainingSequence]) -> list[torch.Tensor]:
        """Log-probabilities [T] of the response tokens of each row."""
        share, own = [replace(row, features={}) for row in self.world.share(rows)], list[torch.Tensor]()
        with self.trainee.precision():
            for start in range(0, len(share), _PART):
                part = share[start : start + _PART]
                scores = self.room.use(partial(self._scored, part), least=min(len(row.ids) for row in part))
                own += [item.logprobs.float() for item in scores]
        return self.world.join(own)

    def _scored(self, rows: Sequence[TrainingSequence], budget: int) -> list[TokenScores]:
        return score(self.trainee.student.model, rows, budget, self.trainee.student.pad_id, keep_hidden=False)

    def entry(self, rows: Sequence[TrainingSequence]) -> compute_ledger.LedgerEntry:
        """The ledger's entry for scoring `rows`."""
        prompts, responses = [row.context for row in rows], [len(row.response) for row in rows]
        return compute_ledger.entry(self.stage, "student", "scoring", self.cost, prompts, responses)


class ReferenceFiles:
    """The log-probabilities of the reference, in one file for each set of sequences."""

    def __init__(self, folder: Path, scorer: StudentScorer) -> None:
        self.folder, self.scorer, self.world = folder, scorer, scorer.world
        folder.mkdir(parents=True, exist_ok=True)

    def holds(self, number: int) -> bool:
        """Whether those of set `number` are there as they were written."""
        return is_whole(self._path(number))

    def make(self, number: int, rows: Sequence[TrainingSequence]) -> list[torch.Tensor]:
        """Those of set `number`, [T] each: from its file, or else by the student, which must be the reference now.

        A file of other sequences, which were sampled anew since, counts as none.
        """
        if not self.world.total(int(self.world.first and self._has(number, rows))):
            scores = self.scorer.score(rows)
            if self.world.first:
                joined = torch.cat(scores) if scores else torch.zeros(0)
                with replacing_sealed(self._path(number)) as temporary:
                    save_file({_LOGPROBS: joined}, temporary, {_SEQUENCES: _digest(rows)})
            self.world.wait()
        return self.read(number, rows)

    def read(self, number: int, rows: Sequence[TrainingSequence]) -> list[torch.Tensor]:
        """Those of set `number` from its file. Raises CohobateError where it is gone or of other sequences."""
        lengths = [len(row.response) for row in rows]
        path = self._path(number)
        values = load_file(path)[_LOGPROBS] if self.holds(number) else None
        if values is None or len(values) != sum(lengths):
            raise CohobateError(f"{path} is gone or altered; run again, which makes it once more")
        return list(values.split(lengths)) if lengths else []

    def _has(self, number: int, rows: Sequence[TrainingSequence]) -> bool:
        if not self.holds(number):
            return False
        with safe_open(self._path(number), framework="pt") as file:
            return (file.metadata() or {}).get(_SEQUENCES) == _digest(rows)

    def _path(self, number: int) -> Path:
        return self.folder / f"reference-{number:06d}.safetensors"


class PreferenceSource(Source):
    """Steps of `batch` judged responses out of given ones; the reference is the student that the training starts with.

    Must be made before the student has learnt anything, or has been restored.
    """

    def __init__(
        self, objective: GivenPreference[Any], judged: Sequence[Judged], trainee: Trainee, folder: Path
    ) -> None:
        self.comparison, self.judged, self.config = objective.comparison, judged, objective.config
        self.world, self.scorer = trainee.world, StudentScorer("sft", trainee)
        rows = [item.sequence for item in judged]
        self.others = mismatched(rows) if self.comparison.needs_divergence else []
        self.every = [*rows, *self.others]
        self.reference = ReferenceFiles(folder, self.scorer)
        self.has_reference = self.comparison.has_reference and self.config.steps > 0
        self.logprobs = list[torch.Tensor]()
        for number, start in enumerate(range(0, len(self.every) if self.has_reference else 0, _FILE)):
            self.logprobs += self.reference.make(number, self.every[start : start + _FILE])

    def batch(self, step: int) -> StepBatch:
        """The sequences of `step`, weighed by the student as it is now."""
        unit = 2 if self.comparison.in_pairs else 1
        units = epoch_batch(self.config.seed, step, self.config.batch // unit, len(self.judged) // unit)
        places = [unit * at + side for at in units for side in range(unit)]
        chosen = places + ([len(self.judged) + at for at in places] if self.others else [])
        scored = [self.every[at] for at in chosen]
        own = self.scorer.score(scored)
        ratios = [a - self.logprobs[at] for a, at in zip(own, chosen, strict=True)] if self.has_reference else own
        rows, statistics = _learnt(self.comparison, [self.judged[at] for at in places], ratios)
        ledger = [self.scorer.entry(scored)]
        if step == 0 and self.has_reference:
            ledger.append(self.scorer.entry(self.every))
        return StepBatch(self.world.share(rows), ledger, statistics)


class RoundSource(RolloutSource):
    """Rounds of rollouts, learnt by a preference objective: a batch of rollouts and its `opd.updates` steps are one.

    The reference is the student at the start of the round.
    """

    def __init__(self, objective: RolloutPreference[Any], folder: Path, *rollouts: Any) -> None:
        super().__init__(*rollouts)
        self.preference = objective
        self.own_scorer = StudentScorer("opd", self.trainee)
        self.reference = ReferenceFiles(folder, self.own_scorer)

    def holds(self, step: int) -> bool:
        return super().holds(step) and self.reference.holds(step // self.config.updates)

    def learnt(self, step: int, rollouts: Sequence[ScoredRollout]) -> StepBatch:
        """The sequences of `step`, weighed by the student as it is now."""
        number, update = divmod(step, self.config.updates)
        comparison, judged = self.preference.comparison, self.preference.judged(rollouts)
        rows = [item.sequence for item in judged]
        every = [*rows, *mismatched(rows)] if comparison.needs_divergence else rows
        reference = self.reference.read(number, every) if update else self.reference.make(number, every)
        own = self.own_scorer.score(every) if update else reference
        ratios = [a - b for a, b in zip(own, reference, strict=True)] if comparison.has_reference else own
        weighed, statistics = _learnt(comparison, judged, ratios)
        if not update:
            statistics |= _mismatch(rows, reference[: len(rows)])
        return StepBatch(self.world.share(weighed), [self.own_scorer.entry(every)], statistics)


def _learnt(
    comparison: Comparison, judged: Sequence[Judged], ratios: Sequence[torch.Tensor]
) -> tuple[list[TrainingSequence], Metrics]:
    """The weighed sequences and their statistics; ratios: of `judged`, then of their mismatched sequences, if any."""
    others = torch.tensor([float(ratio.sum()) for ratio in ratios[len(judged) :]])
    divergence = max(0.0, float(others.mean())) if len(others) else 0.0
    weighed = weigh(comparison, judged, ratios[: len(judged)], divergence)
    estimate = {"divergence": divergence} if comparison.needs_divergence else {}
    return weighed.rows, {**weighed.statistics, **estimate}


def _mismatch(rows: Sequence[TrainingSequence], logprobs: Sequence[torch.Tensor]) -> Metrics:
    """How far the sampler of the rollouts among `rows` was from the trainer: the mean k3 of their tokens, in nats."""
    name = "sampler_logprobs"
    gaps = [own - row.features[name] for row, own in zip(rows, logprobs, strict=True) if name in row.features]
    if not gaps:
        return {}
    gap = torch.cat(gaps).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return {"mismatch_k3": float((gap.expm1() - gap).mean())}
