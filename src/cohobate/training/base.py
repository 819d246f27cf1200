"""What the training loop and its sources say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cohobate.batches import Row
from cohobate.ledger import LedgerEntry

Metrics = dict[str, Any]


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step learns from: rows, what they cost, and statistics worth keeping."""

    rows: list[Row]
    ledger: list[LedgerEntry] = field(default_factory=list)
    statistics: Metrics = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Source(Protocol):
    """Where the batches come from. `batch(step)` gives the same rows whenever it is asked for the same step."""

    def batch(self, step: int) -> StepBatch: ...

    def forget(self, step: int) -> None:
        """A snapshot holds everything before `step`: what only a replay would need may go."""


@dataclass
class Progressed:
    """How far a run has come: steps done, the metrics of each, the ledger so far; why it ended early, if it did."""

    step: int = 0
    metrics: list[Metrics] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    alarm: str | None = None


# Called before the first step, every evaluate_every steps and after the last.
EvaluateAt = Callable[[int, list[LedgerEntry]], None]
