"""Snapshots that are written beside training, as on a GPU: the state of their own step, and never lost silently."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from cohobate.models.chat_template import PromptFormat
from cohobate.training import snapshots
from cohobate.training.loop import Run
from cohobate.training.snapshot_writer import SnapshotWriter
from cohobate.training.triple_source import training_rows
from tests.support.training_runs import TRIPLES, Given, base, interrupt_at, run_of, weights

pytestmark = pytest.mark.trains

STEPS, EVERY = 5, 2


def run(folder: Path, *, beside: bool, before: Any = lambda step: None) -> Run:
    student = base()
    source = Given(training_rows(student.tokenizer, TRIPLES, PromptFormat()), before)
    made = run_of(student, source, folder, steps=STEPS, snapshot_every=EVERY, lr=1e-3)
    made.writer = SnapshotWriter(folder, 2, beside=beside)
    return made


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [found for part in value.values() for found in tensors(part)]
    return [value] if torch.is_tensor(value) else []


def assert_same_weights(a: Run, b: Run) -> None:
    ours, theirs = weights(a.trainee.student), weights(b.trainee.student)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    start = weights(base())
    assert not any(torch.equal(ours[name], start[name]) for name in start if "proj" in name)


def test_training_goes_on_while_a_snapshot_of_its_step_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(tmp_path / "plain", beside=False)
    plain.train()
    later, save = threading.Event(), snapshots.save

    def save_late(*args: Any) -> None:
        assert later.wait(60), "training waited for the snapshot"
        save(*args)

    def before(step: int) -> None:
        if step == EVERY + 1:  # a step after the first snapshot has been taken
            later.set()

    monkeypatch.setattr(snapshots, "save", save_late)
    other = run(tmp_path / "beside", beside=True, before=before)
    other.train()
    assert_same_weights(plain, other)
    for step in (2, 4):
        [a, b] = [snapshots.load_latest(tmp_path / name, up_to=step) for name in ("plain", "beside")]
        assert a is not None and b is not None and a.step == b.step == step
        assert [row["loss"] for row in a.metrics] == [row["loss"] for row in b.metrics] and a.ledger == b.ledger
        assert len(tensors(a.tensors)) > 10
        assert all(torch.equal(x, y) for x, y in zip(tensors(a.tensors), tensors(b.tensors), strict=True))
        assert a.tensors["schedule"] == b.tensors["schedule"]


def test_a_run_that_is_interrupted_goes_on_from_it_to_the_same_weights(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", beside=False)
    plain.train()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "beside", beside=True, before=interrupt_at(4)).train()
    resumed = run(tmp_path / "beside", beside=True)
    resumed.train()
    assert_same_weights(plain, resumed)


def test_what_writing_raises_ends_the_run_and_the_scores_before_it_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    forgotten: list[int] = []
    monkeypatch.setattr(snapshots, "save", fail)
    failing = run(tmp_path, beside=True)
    monkeypatch.setattr(failing.source, "forget", forgotten.append)
    with pytest.raises(OSError, match="No space left"):
        failing.train()
    assert forgotten == []
