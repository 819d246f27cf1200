"""The training loop: a step is a transaction, a run is a sequence of steps with snapshots.

    for each step: the source's batch (persisted first, where it cost something) -> gradient -> update -> metrics

A run that was killed goes on from its newest snapshot and replays the steps since: the source returns what it
persisted, all noise is seeded by the step, and on a CPU the weights come out bit for bit as if nothing had happened.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cohobate.core import interrupts, progress
from cohobate.core.errors import CohobateError
from cohobate.core.progress import Bar
from cohobate.models.batching import batches, can_share
from cohobate.models.sequence import TrainingSequence
from cohobate.models.token_loss import Terms, TokenLoss, Tokens, merge
from cohobate.store import ledger
from cohobate.store.ledger import LedgerEntry
from cohobate.training import alarms, snapshots
from cohobate.training.learner import like, whole
from cohobate.training.metrics import averages, flops_by_model
from cohobate.training.optimizer import load_whole_state, make_optimizer, whole_state
from cohobate.training.trainee import Trainee
from cohobate.training.types import EvaluateAt, Metrics, Progressed, Source


@dataclass
class Run:
    """Everything one training run needs; `folder` survives kills and is where it resumes from."""

    trainee: Trainee
    source: Source
    objective: TokenLoss
    folder: Path
    stage: str
    evaluate_at: EvaluateAt
    bar: Bar

    def __post_init__(self) -> None:
        self.config = self.trainee.config
        self.student, self.world = self.trainee.student, self.trainee.world
        self.optimizer, self.schedule = make_optimizer(self.trainee.trainable().values(), self.config)

    def train(self) -> Progressed:
        """Run (or resume) all steps; the student holds the final weights afterwards.

        An alarm ends the run with the student of the last snapshot before its signs began, and `alarm` says why.
        """
        if self.world.first:
            snapshots.fix_threads(self.folder)
        self.world.wait()
        torch.set_num_threads(snapshots.fixed_threads(self.folder))
        done = self._restore()
        self.bar.advance(done.step)
        try:
            self._go_on(done)
        finally:
            self.source.close()
        self._evaluate(done)
        return done

    def _go_on(self, done: Progressed) -> None:
        """The steps that are left."""
        while done.step < self.config.steps:
            if done.step % self.config.evaluate_every == 0:
                self._evaluate(done)
            self.take_step(done)
            interrupts.check()
            alarm = alarms.ring(done.metrics, self.config.alarms)
            if alarm is not None:
                self._roll_back(done, alarm)
                break
            if done.step % self.config.snapshot_every == 0 and done.step < self.config.steps:
                self._snapshot(done)

    def _evaluate(self, done: Progressed) -> None:
        self.trainee.sync()
        if self.world.first:
            self.evaluate_at(done.step, done.ledger)
        self.world.wait()

    def take_step(self, done: Progressed) -> None:
        # Dropout and anything else that draws from torch's generator depends on the step alone.
        torch.manual_seed(self.config.seed * 1_000_003 + done.step)
        self.trainee.sync()
        batch = self.source.batch(done.step)
        started = time.perf_counter()
        total = self.world.total(sum(len(row.response) for row in batch.rows))
        terms = self.accumulate_gradient(batch.rows, total)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.trainee.trainable().values(), self.config.clip)).detach()
        self._refuse_nonfinite(done.step, terms, float(norm))
        lr = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = {**batch.seconds, "update": time.perf_counter() - started}
        done.ledger = ledger.total([*done.ledger, *batch.ledger, self._cost(batch.rows)])
        done.metrics.append(
            {
                "step": done.step,
                **averages(terms, total),
                "lr": lr,
                "grad_norm": float(norm),
                "tokens": total,
                "sequences": self.world.total(len(batch.rows)),
                **batch.statistics,
                **{f"seconds_{part}": value for part, value in seconds.items()},
                **flops_by_model(done.ledger),
            }
        )
        done.step += 1
        self.bar.advance(1, _note(done.metrics[-1]))

    def accumulate_gradient(self, rows: list[TrainingSequence], total: int) -> Terms:
        """Accumulate the gradient of the mean loss over the `total` response tokens of the step, on all ranks."""
        self.student.model.train()
        learner = self.trainee.learner.train()
        with self.trainee.precision():
            share = not self.trainee.is_sharded and can_share(self.student.model)
        budget, device = self.config.tokens_per_batch, self.student.device
        made = list(batches(rows, budget, self.student.pad_id, device, share=share))
        # Sharded weights are gathered in every pass, so all ranks need the same number of passes, and must agree on it
        # before the first of them.
        idle = self.world.largest(len(made)) - len(made) if self.trainee.is_sharded else 0
        scale = (self.world.size if self.trainee.is_sharded else 1) / max(1, total)  # FSDP averages over the ranks
        sums: Terms = {}
        for batch in made:
            with self.trainee.precision():
                terms = learner(batch, self.objective)
            (terms["loss"] * scale).backward()
            sums = merge(sums, {name: value.detach() for name, value in terms.items()})
        if self.trainee.is_sharded:
            self._pass_idly(idle)
        else:
            self.world.add_gradients(list(self.trainee.trainable().values()))
        return self.world.merge(sums) or {"loss": torch.zeros(())}

    def _pass_idly(self, count: int) -> None:
        """So many passes forward and backward that teach nothing."""
        pad = self.student.pad_id
        for _ in range(count):
            [batch] = batches([TrainingSequence([pad, pad], 1)], 1, pad, self.student.device)
            (self.trainee.learner(batch, _any_loss)["loss"] * 0).backward()

    def _cost(self, rows: list[TrainingSequence]) -> LedgerEntry:
        cost = ledger.ModelCost.of(self.student.model.config)
        lengths = self.world.join([(row.context, len(row.response)) for row in rows])
        work: ledger.Work = "adapter update" if self.config.lora else "update"
        return ledger.entry(self.stage, "student", work, cost, [a for a, _ in lengths], [b for _, b in lengths])

    def _refuse_nonfinite(self, step: int, terms: Terms, norm: float) -> None:
        loss = float(terms["loss"])
        if not (abs(loss) < float("inf") and norm < float("inf")):
            raise CohobateError(
                f"{self.stage}: the loss is {loss} and its gradient norm {norm} at step {step}; lower "
                f"{self.stage}.lr (now {self.config.lr:g}) and run again: finished stages are kept"
            )

    def _roll_back(self, done: Progressed, alarm: alarms.Alarm) -> None:
        """Give the student the weights of the newest snapshot that the alarm does not doubt."""
        saved = snapshots.newest(self.folder, up_to=alarm.first_step)
        advice = f"lower {self.stage}.lr (now {self.config.lr:g}), or change {self.stage}.alarms if this is meant"
        if saved is None:
            raise CohobateError(
                f"{self.stage}: {alarm.reason} at step {done.step}, before there was a good snapshot to go back to; "
                f"{advice}"
            )
        self._load_weights(saved[0]["model"])
        done.step, done.alarm = saved[1]["step"], alarm.reason
        progress.say(f"{self.stage}: {alarm.reason}; stopped, and went back to step {done.step}; {advice}")

    def _restore(self) -> Progressed:
        saved = snapshots.newest(self.folder)
        if saved is None:
            return Progressed()
        state, facts = saved
        self._load_weights(state["model"])
        load_whole_state(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        entries = [LedgerEntry(**item) for item in facts["ledger"]]
        return Progressed(facts["step"], facts["metrics"], entries)

    def _snapshot(self, done: Progressed) -> None:
        self.source.settle()
        self.world.wait()  # until all ranks have
        state = {
            "model": {name: whole(p.detach()) for name, p in self.trainee.trainable().items()},
            "optimizer": whole_state(self.optimizer),
            "schedule": self.schedule.state_dict(),
        }
        facts = {
            "step": done.step,
            "metrics": done.metrics,
            "ledger": [item.as_dict() for item in done.ledger],
        }
        # An alarm goes back behind all the steps that it doubts.
        keep = 2 + self.config.alarms.patience // self.config.snapshot_every
        if self.world.first:
            snapshots.publish(self.folder, done.step, state, facts, keep)
        self.world.wait()
        self.source.forget(done.step)

    @torch.no_grad()
    def _load_weights(self, saved: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.trainee.trainable().items():
            parameter.copy_(like(parameter, saved[name]))


def _note(metrics: Metrics) -> str:
    kl = metrics.get("reverse_kl")
    return f"loss {metrics['loss']:.3f}" if kl is None else f"reverse KL {kl:.3f}"


def _any_loss(logits: torch.Tensor, tokens: Tokens) -> Terms:
    return {"loss": logits.sum()}
