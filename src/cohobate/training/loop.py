"""The training loop: a step is a transaction, a run is a sequence of steps with snapshots.

    for each step: the source's batch (persisted first, where it cost something) -> gradient -> update -> metrics

A run that was killed resumes from its latest snapshot and replays the steps since: the source returns the batches that
it persisted, all noise is seeded by the step, and on a CPU the weights are the same bit for bit as without the kill.
Where a snapshot was altered, or what an earlier step persisted for good is gone, it resumes from an older one, and
takes those steps once more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cohobate.core import interrupts, progress
from cohobate.core.errors import CohobateError, ModelError
from cohobate.core.memory import return_freed_memory
from cohobate.core.progress import Bar
from cohobate.models.batching import batches, can_share
from cohobate.models.memory_room import Room
from cohobate.models.model_cost import cost_of
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Terms, TokenLoss, Tokens, merge
from cohobate.store import compute_ledger
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.training import alarms, snapshots
from cohobate.training.learner import full_tensor, shard_like
from cohobate.training.metrics import averages, flops_by_model
from cohobate.training.optimizer import full_state, load_full_state, make_optimizer
from cohobate.training.snapshot_writer import SnapshotWriter
from cohobate.training.snapshots import Snapshot
from cohobate.training.trainee import Trainee
from cohobate.training.types import EvaluateAt, HasPoint, Metrics, RunState, Source


@dataclass
class Run:
    """The parts of one training run; `folder` survives kills, and the run resumes from it."""

    trainee: Trainee
    source: Source
    objective: TokenLoss
    folder: Path
    stage: str
    evaluate_at: EvaluateAt
    bar: Bar
    has_point: HasPoint = lambda step: True

    def __post_init__(self) -> None:
        self.config = self.trainee.config
        self.student, self.world = self.trainee.student, self.trainee.world
        self.room = Room(self.config.tokens_per_batch, "tokens", self.stage)
        self.optimizer, self.schedule = make_optimizer(self.trainee.trainable().values(), self.config)
        # An alarm rolls back to before the first of the steps that crossed its limit.
        keep = 2 + self.config.alarms.patience // self.config.snapshot_every
        self.writer = SnapshotWriter(self.folder, keep, beside=self.student.device.type == "cuda")
        self.written: int | None = None  # the step of the snapshot that is being written

    def train(self) -> RunState:
        """Run (or resume) all steps; the student has the final weights afterwards.

        An alarm ends the run with the student of the last snapshot before its first step, and `alarm` has the reason.
        """
        if self.world.first:
            snapshots.save_thread_count(self.folder)
        self.world.wait()
        torch.set_num_threads(snapshots.load_thread_count(self.folder))
        state = self._restore()
        self.bar.advance(state.step)
        for metrics in state.metrics:  # those of the attempts before this one
            progress.measured(self.stage, int(metrics["step"]) + 1, metrics)
        try:
            self._take_remaining_steps(state)
            self._finish_snapshot()
        finally:
            self.source.close()
        self._evaluate(state)
        if self.world.first and (lost := self._first_lost(state.step)) is not None:
            raise CohobateError(
                f"{self.stage}: what step {lost} made is gone or altered; run again, which takes it once more"
            )
        return state

    def _take_remaining_steps(self, state: RunState) -> None:
        while state.step < self.config.steps:
            if state.step % self.config.evaluate_every == 0:
                self._evaluate(state)
            self.take_step(state)
            interrupts.check()
            alarm = alarms.check(state.metrics, self.config.alarms)
            if alarm is not None:
                self._roll_back(state, alarm)
                break
            # The second is for alarms that ring before the first.
            due = (
                state.step % self.config.snapshot_every == 0 or state.step == alarms.FIRST < self.config.snapshot_every
            )
            if due and state.step < self.config.steps:
                self._snapshot(state)

    def _evaluate(self, state: RunState) -> None:
        self.trainee.sync()
        if self.world.first:
            self.evaluate_at(state.step, state.ledger)
            return_freed_memory()  # the blocks of sampling have other sizes than those of updates
        self.world.wait()

    def take_step(self, state: RunState) -> None:
        """One update, which `state` then includes. Raises CohobateError where loss or gradient are not finite."""
        # Dropout and anything else that draws from torch's generator depends on the step alone.
        torch.manual_seed(self.config.seed * 1_000_003 + state.step)
        self.trainee.sync()
        batch = self.source.batch(state.step)
        started = time.perf_counter()
        total = self.world.total(sum(len(row.response) for row in batch.rows))
        terms = self.accumulate_gradient(batch.rows, total)
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.trainee.trainable().values(), self.config.clip)).detach()
        self._refuse_nonfinite(state.step, terms, float(norm))
        lr = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.trainee.lead()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = {**batch.seconds, "update": time.perf_counter() - started}
        state.ledger = compute_ledger.total([*state.ledger, *batch.ledger, self._cost(batch.rows)])
        state.metrics.append(
            {
                "step": state.step,
                **averages(terms, total),
                "lr": lr,
                "grad_norm": float(norm),
                "tokens": total,
                "sequences": self.world.total(len(batch.rows)),
                **batch.statistics,
                **{f"seconds_{part}": value for part, value in seconds.items()},
                **flops_by_model(state.ledger),
            }
        )
        state.step += 1
        self.bar.advance(1, _note(state.metrics[-1]))
        progress.measured(self.stage, state.step, state.metrics[-1])

    def accumulate_gradient(self, rows: list[TrainingSequence], total: int) -> Terms:
        """Accumulate the gradient of the mean loss over the `total` response tokens of the step, on all ranks."""
        if self.trainee.is_sharded:
            return self.world.merge(self._pass_together(rows, total)) or _nothing()
        device = self.student.device

        def attempt(budget: int) -> Terms:
            self.optimizer.zero_grad(set_to_none=True)
            # Every attempt drops the same activations.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                return self._pass(rows, total, budget)

        sums = self.room.use(attempt, least=min((len(row.ids) for row in rows), default=1))
        if total:  # without a token no weight moves, in one process or in several
            self.world.add_gradients(list(self.trainee.trainable().values()))
        return self.world.merge(sums) or _nothing()

    def _pass_together(self, rows: list[TrainingSequence], total: int) -> Terms:
        """As `_pass`; the ranks pass together, so that none may begin anew with less at a time."""
        try:
            return self._pass(rows, total, self.room.size)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.stage}: the memory of the device is not enough for {self.room.size} tokens at a time beside "
                f"this share of the student; lower {self.stage}.tokens_per_batch"
            ) from error

    def _pass(self, rows: list[TrainingSequence], total: int, budget: int) -> Terms:
        """Pass `rows` forward and backward, `budget` tokens at a time; the terms of this rank."""
        learner = self.trainee.begin_update()
        with self.trainee.precision():
            share = not self.trainee.is_sharded and can_share(self.student.model)
        micro_batches = list(batches(rows, budget, self.student.pad_id, self.student.device, share=share))
        # Sharded weights are gathered in every pass, so all ranks need the same number of passes, and must agree on it
        # before the first of them.
        idle = self.world.largest(len(micro_batches)) - len(micro_batches) if self.trainee.is_sharded else 0
        scale = (self.world.size if self.trainee.is_sharded else 1) / max(1, total)  # FSDP averages over the ranks
        sums: Terms = {}
        for batch in micro_batches:
            with self.trainee.precision():
                terms = learner(batch, self.objective)
            (terms["loss"] * scale).backward()
            sums = merge(sums, {name: value.detach() for name, value in terms.items()})
        if self.trainee.is_sharded:
            self._pass_idly(idle)
        return sums

    def _pass_idly(self, count: int) -> None:
        """Make `count` passes forward and backward with a loss of 0."""
        pad = self.student.pad_id
        for _ in range(count):
            [batch] = batches([TrainingSequence([pad, pad], 1)], 1, pad, self.student.device)
            (self.trainee.learner(batch, _any_loss)["loss"] * 0).backward()

    def _cost(self, rows: list[TrainingSequence]) -> LedgerEntry:
        cost = cost_of(self.student.model.config)
        lengths = self.world.join([(row.context, len(row.response)) for row in rows])
        work: compute_ledger.Work = "adapter update" if self.config.lora else "update"
        return compute_ledger.entry(self.stage, "student", work, cost, [a for a, _ in lengths], [b for _, b in lengths])

    def _refuse_nonfinite(self, step: int, terms: Terms, norm: float) -> None:
        loss = float(terms["loss"])
        if not (abs(loss) < float("inf") and norm < float("inf")):
            raise CohobateError(
                f"{self.stage}: the loss is {loss} and its gradient norm {norm} at step {step}; lower "
                f"{self.stage}.lr (now {self.config.lr:g}) and run again: finished stages are kept"
            )

    def _roll_back(self, state: RunState, alarm: alarms.Alarm) -> None:
        """Load the weights of the latest snapshot before the alarm's first step."""
        self._finish_snapshot()
        self._set_damaged_aside()
        snapshot = snapshots.load_latest(self.folder, up_to=alarm.first_step)
        usual = f"lower {self.stage}.lr (now {self.config.lr:g}), or change {self.stage}.alarms if this is meant"
        advice = alarm.advice or usual
        if snapshot is None:
            raise CohobateError(
                f"{self.stage}: {alarm.reason} at step {state.step}, before there was a good snapshot to go back to; "
                f"{advice}"
            )
        self._load_weights(snapshot.tensors["model"])
        state.step, state.alarm = snapshot.step, alarm.reason
        progress.say(f"{self.stage}: {alarm.reason}; stopped, and went back to step {state.step}; {advice}")

    def _set_damaged_aside(self) -> None:
        if self.world.first:
            snapshots.set_damaged_aside(self.folder)
        self.world.wait()

    def _drop_what_lacks_steps(self) -> None:
        """Delete the snapshots after the first step of which something that is published is gone."""
        lost = self._first_lost(snapshots.latest_step(self.folder)) if self.world.first else None
        if lost is not None:
            snapshots.drop_after(self.folder, lost)
            begin = snapshots.latest_step(self.folder)
            progress.say(f"{self.stage}: what step {lost} made is gone; the steps from {begin} on are taken once more")
        self.world.wait()

    def _first_lost(self, steps: int) -> int | None:
        """The first of so many steps whose batch or whose evaluation is not there as it was persisted."""
        for step in range(steps):
            measured = step % self.config.evaluate_every != 0 or self.has_point(step)
            if not measured or not self.source.holds(step):
                return step
        return None

    def _restore(self) -> RunState:
        self._set_damaged_aside()
        self._drop_what_lacks_steps()
        snapshot = snapshots.load_latest(self.folder)
        if snapshot is None:
            return RunState()
        self._load_weights(snapshot.tensors["model"])
        load_full_state(self.optimizer, snapshot.tensors["optimizer"])
        if self.trainee.average is not None:
            self.trainee.average.restore(snapshot.tensors["teacher"])
        self.schedule.load_state_dict(snapshot.tensors["schedule"])
        return RunState(snapshot.step, snapshot.metrics, snapshot.ledger)

    def _snapshot(self, state: RunState) -> None:
        self.source.settle()
        self._finish_snapshot()
        self.world.wait()  # until all ranks have
        tensors = {
            "model": {name: full_tensor(p.detach()) for name, p in self.trainee.trainable().items()},
            "optimizer": full_state(self.optimizer),
            "schedule": self.schedule.state_dict(),
            **({"teacher": self.trainee.average.state()} if self.trainee.average is not None else {}),
        }
        if self.world.first:
            self.writer.write(Snapshot(state.step, state.metrics, state.ledger, tensors))
        self.written = state.step
        if not self.writer.beside:
            self._finish_snapshot()

    def _finish_snapshot(self) -> None:
        """Wait until the snapshot that is being written is on disk; then nobody needs what was before it."""
        if self.written is None:
            return
        if self.world.first:
            self.writer.wait()
        self.world.wait()
        self.source.forget(self.written)
        self.written = None

    @torch.no_grad()
    def _load_weights(self, saved: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.trainee.trainable().items():
            parameter.copy_(shard_like(parameter, saved[name]))


def _note(metrics: Metrics) -> str:
    kl = metrics.get("reverse_kl")
    return f"loss {metrics['loss']:.3f}" if kl is None else f"reverse KL {kl:.3f}"


def _nothing() -> Terms:
    return {"loss": torch.zeros(())}


def _any_loss(logits: torch.Tensor, tokens: Tokens) -> Terms:
    return {"loss": logits.sum()}
