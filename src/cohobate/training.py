"""The training loop: a step is a transaction, a run is a sequence of steps with snapshots.

    for each step: the source's batch (persisted first, where it cost something) -> gradient -> update -> metrics

A run that was killed goes on from its newest snapshot and replays the steps since: the source returns what it
persisted, all noise is seeded by the step, and on a CPU the weights come out bit for bit as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from cohobate import ledger, snapshots
from cohobate.batches import Row, batches, hidden_states
from cohobate.config import Training
from cohobate.errors import CohobateError
from cohobate.ledger import LedgerEntry
from cohobate.objectives.base import Objective, Terms, evaluate_in_chunks, merge
from cohobate.progress import Bar
from cohobate.students import LoadedModel

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
    """How far a run has come: steps done, the metrics of each, the ledger so far."""

    step: int = 0
    metrics: list[Metrics] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)


# Called before the first step, every evaluate_every steps and after the last.
EvaluateAt = Callable[[int, list[LedgerEntry]], None]


@dataclass
class Run:
    """Everything one training run needs; `folder` survives kills and is where it resumes from."""

    student: LoadedModel
    source: Source
    objective: Objective
    config: Training
    folder: Path
    stage: str
    evaluate_at: EvaluateAt
    bar: Bar

    def train(self) -> Progressed:
        """Run (or resume) all steps; the student holds the final weights afterwards."""
        threads = snapshots.fixed_threads(self.folder)
        torch.set_num_threads(threads)
        optimizer, schedule = make_optimizer(self.student.model, self.config)
        done = self._restore(optimizer, schedule)
        self.bar.advance(done.step)
        while done.step < self.config.steps:
            if done.step % self.config.evaluate_every == 0:
                self.evaluate_at(done.step, done.ledger)
            self._step(done, optimizer, schedule)
            if done.step % self.config.snapshot_every == 0 and done.step < self.config.steps:
                self._snapshot(done, optimizer, schedule)
        self.evaluate_at(done.step, done.ledger)
        return done

    def _step(self, done: Progressed, optimizer: Any, schedule: Any) -> None:
        # Dropout and anything else that draws from torch's generator depends on the step alone.
        torch.manual_seed(self.config.seed * 1_000_003 + done.step)
        batch = self.source.batch(done.step)
        started = time.perf_counter()
        terms = self._gradient(batch.rows)
        norm = torch.nn.utils.clip_grad_norm_(self.student.model.parameters(), self.config.clip)
        self._refuse_nonfinite(done.step, terms, float(norm))
        lr = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = {**batch.seconds, "update": time.perf_counter() - started}
        done.ledger = ledger.total([*done.ledger, *batch.ledger, self._cost(batch.rows)])
        done.metrics.append(
            {
                "step": done.step,
                **averages(terms, batch.rows),
                "lr": lr,
                "grad_norm": float(norm),
                "tokens": sum(len(row.response) for row in batch.rows),
                "sequences": len(batch.rows),
                **batch.statistics,
                **{f"seconds_{part}": value for part, value in seconds.items()},
                **flops_by_model(done.ledger),
            }
        )
        done.step += 1
        self.bar.advance(1, _note(done.metrics[-1]))

    def _gradient(self, rows: list[Row]) -> Terms:
        """Accumulate the gradient of the mean loss over every response token of the step."""
        model = self.student.model
        model.train()
        total = max(1, sum(len(row.response) for row in rows))
        head = model.get_output_embeddings()
        sums: Terms = {}
        budget = self.config.tokens_per_batch
        for batch in batches(rows, budget, self.student.pad_id, self.student.device):
            hidden = hidden_states(model, batch)
            terms = evaluate_in_chunks(self.objective, head, hidden, batch.tokens, head.out_features)
            (terms["loss"] / total).backward()
            sums = merge(sums, {name: value.detach() for name, value in terms.items()})
        return sums

    def _cost(self, rows: list[Row]) -> LedgerEntry:
        cost = ledger.ModelCost.of(self.student.model.config)
        prompts = [row.context for row in rows]
        responses = [len(row.response) for row in rows]
        return ledger.entry(self.stage, "student", "update", cost, prompts, responses)

    def _refuse_nonfinite(self, step: int, terms: Terms, norm: float) -> None:
        loss = float(terms["loss"])
        if not (abs(loss) < float("inf") and norm < float("inf")):
            raise CohobateError(
                f"{self.stage}: the loss is {loss} and its gradient norm {norm} at step {step}; lower "
                f"{self.stage}.lr (now {self.config.lr:g}) and run again: finished stages are kept"
            )

    def _restore(self, optimizer: Any, schedule: Any) -> Progressed:
        saved = snapshots.newest(self.folder)
        if saved is None:
            return Progressed()
        state, facts = saved
        self.student.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        entries = [LedgerEntry(**item) for item in facts["ledger"]]
        return Progressed(facts["step"], facts["metrics"], entries)

    def _snapshot(self, done: Progressed, optimizer: Any, schedule: Any) -> None:
        state = {
            "model": self.student.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        facts = {
            "step": done.step,
            "metrics": done.metrics,
            "ledger": [item.as_dict() for item in done.ledger],
        }
        snapshots.publish(self.folder, done.step, state, facts)
        self.source.forget(done.step)


def make_optimizer(model: Any, config: Training) -> tuple[Any, Any]:
    """AdamW (no decay on norms and biases) and its schedule: linear warm-up, then config.schedule."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    kept = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, config))
    return optimizer, schedule


def lr_factor(step: int, config: Training) -> float:
    """The share of config.lr at `step` (from 0): rises over `warmup` steps, ends at min_lr_ratio."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    falling = 1 - share
    if config.schedule == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * share))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * falling


def averages(terms: Terms, rows: list[Row]) -> Metrics:
    """Per-token means of the summed terms; maxima as they are."""
    total = max(1, sum(len(row.response) for row in rows))
    return {name: float(value) if name.endswith("_max") else float(value) / total for name, value in terms.items()}


def flops_by_model(entries: list[LedgerEntry]) -> Metrics:
    """{teacher_flops, student_flops} of the training work so far; evaluation is not part of a method's cost."""
    return {
        f"{model}_flops": sum(e.flops for e in entries if e.model == model and e.work != "evaluation")
        for model in ("teacher", "student")
    }


def write_table(rows: list[Metrics], path: Path) -> None:
    """`rows` as Parquet; a column that some rows lack (a replayed step has no rollout time) is null there."""
    import polars as pl

    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path, compression="zstd")


def _note(metrics: Metrics) -> str:
    kl = metrics.get("reverse_kl")
    return f"loss {metrics['loss']:.3f}" if kl is None else f"reverse KL {kl:.3f}"
