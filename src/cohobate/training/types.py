"""What the training loop and its sources say to each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cohobate.models.sequence import TrainingSequence
from cohobate.store.ledger import LedgerEntry

Metrics = dict[str, Any]


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step learns from: rows, what they cost, and statistics worth keeping."""

    rows: list[TrainingSequence]
    ledger: list[LedgerEntry] = field(default_factory=list)
    statistics: Metrics = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Source(ABC):
    """Where the batches come from. `batch(step)` gives the same rows whenever it is asked for the same step."""

    @abstractmethod
    def batch(self, step: int) -> StepBatch:
        """What `step` learns from."""

    def settle(self) -> None:  # noqa: B027  most sources have nothing to settle, to forget or to end
        """Before a snapshot: persist what a run that goes on from it could not make, since that needs older weights."""

    def forget(self, step: int) -> None:  # noqa: B027
        """A snapshot holds everything before `step`: what only a replay would need may go."""

    def close(self) -> None:  # noqa: B027
        """Nothing more will be asked: end what is under way."""


@dataclass
class Progressed:
    """How far a run has come: steps done, the metrics of each, the ledger so far; why it ended early, if it did."""

    step: int = 0
    metrics: list[Metrics] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    alarm: str | None = None


# Called before the first step, every evaluate_every steps and after the last.
EvaluateAt = Callable[[int, list[LedgerEntry]], None]
