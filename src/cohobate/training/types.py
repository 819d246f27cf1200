"""The types that travel between the training loop and its sources: rollouts, batches, the state of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cohobate.models.logprobs import TokenScores
from cohobate.models.sampling.sampler import FinishReason
from cohobate.models.sequence import TrainingSequence
from cohobate.store.compute_ledger import LedgerEntry

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """A response of the student as it was sampled, and its reward: a row of the rollout log without the teacher.

    step: the number of its batch of rollouts; row: its place there; sample_index: its place in the group of its
    question. prompt_ids [P], response_ids [T]. sampler_logprobs: [T], in nats, by the policy that sampled. reward: None
    where there is no verdict. ghost_ids: a given response to the same question, where the objective uses one.
    feedback: the verdict in words, where the teacher is shown it. teacher: the name of that which scores, of several.
    """

    step: int
    row: int
    question_id: str
    sample_index: int
    prompt_ids: Sequence[int]
    response_ids: Sequence[int]
    text: str
    sampler_logprobs: Sequence[float]
    finish_reason: FinishReason
    reward: float | None = None
    ghost_ids: Sequence[int] | None = None
    feedback: str | None = None
    teacher: str | None = None

    @property
    def truncated(self) -> bool:
        """Whether the response was cut at the largest length."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class ScoredRollout:
    """A rollout with the teacher's scores of its tokens, None where no teacher scores.

    teacher_prompt_tokens: length of the prompt under which the teacher scores. length_advantage: what its length is
    worth against the others of its group, where the recipe has a price on length.
    """

    rollout: Rollout
    teacher: TokenScores | None = None
    teacher_prompt_tokens: int | None = None
    length_advantage: float | None = None

    def sequence(self) -> TrainingSequence:
        """Prompt and response as they were sampled, with the sampler's and the teacher's scores as features."""
        prompt, response = self.rollout.prompt_ids, self.rollout.response_ids
        features = {"sampler_logprobs": torch.tensor(self.rollout.sampler_logprobs)}
        if self.teacher is not None:
            features |= self.teacher.features()
        if self.length_advantage is not None:
            features["length_advantages"] = torch.full((len(response),), self.length_advantage)
        return TrainingSequence([*prompt, *response], len(prompt), features)

    def logged(self) -> ScoredRollout:
        """The part that the rollout log has: of the teacher's scores the log-probabilities and spans."""
        if self.teacher is None:
            return self
        return replace(self, teacher=TokenScores(self.teacher.logprobs, spans=self.teacher.spans))


@dataclass(frozen=True)
class StepBatch:
    """The sequences of one optimizer step, the cost of making them, and statistics of the step.

    seconds: wall-clock time of each part of the making.
    """

    rows: list[TrainingSequence]
    ledger: list[LedgerEntry] = field(default_factory=list)
    statistics: Metrics = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Source(ABC):
    """Where the batches come from. `batch(step)` gives the same rows at every call for the same step."""

    @abstractmethod
    def batch(self, step: int) -> StepBatch:
        """The sequences of `step`."""

    def holds(self, step: int) -> bool:
        """Whether what `step`, which was taken, has persisted for good is there as it was written."""
        return True

    def settle(self) -> None:  # noqa: B027  most sources have nothing to settle, to forget or to end
        """Before a snapshot: persist batches that a resumed run could not make again, for want of older weights."""

    def forget(self, step: int) -> None:  # noqa: B027
        """Drop what only a replay of the steps before `step` would need: a snapshot holds them."""

    def close(self) -> None:  # noqa: B027
        """No further batch is asked for: end what is under way."""


@dataclass
class RunState:
    """The steps that a run has taken, the metrics of each, the ledger so far; alarm: why it ended early, if it did."""

    step: int = 0
    metrics: list[Metrics] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    alarm: str | None = None


# Called before the first step, every evaluate_every steps and after the last.
EvaluateAt = Callable[[int, list[LedgerEntry]], None]
# Whether the result of such a call is there as it was written.
HasPoint = Callable[[int], bool]
