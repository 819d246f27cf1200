"""Snapshots of a training run, each written completely or not at all; the newest few stay.

A snapshot is a folder `step-000050/` with state.pt (tensors) and, written last, state.json (step, metrics, ledger).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cohobate.core.atomic_files import sync_folder, write_json_atomic
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.training.types import Metrics


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `step` steps: metrics of each step, ledger so far, state dicts of tensors by name."""

    step: int
    metrics: list[Metrics]
    ledger: list[LedgerEntry]
    tensors: dict[str, Any]


def save(folder: Path, snapshot: Snapshot, keep: int = 2) -> None:
    """Write `snapshot` under `folder`/snapshots and delete all but the newest `keep`."""
    final = _home(folder) / f"step-{snapshot.step:06d}"
    unfinished = final.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with (unfinished / "state.pt").open("wb") as file:
        torch.save(snapshot.tensors, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)  # left without state.json by a kill
    unfinished.rename(final)
    entries = [entry.as_dict() for entry in snapshot.ledger]
    facts = {"step": snapshot.step, "metrics": snapshot.metrics, "ledger": entries}
    write_json_atomic(final / "state.json", facts)
    sync_folder(final.parent)
    for old in _finished(folder)[:-keep]:
        # The marker goes first: a half-deleted snapshot must not look finished.
        (old / "state.json").unlink()
        shutil.rmtree(old)


def load_latest(folder: Path, up_to: int | None = None) -> Snapshot | None:
    """The latest finished snapshot, or the latest up to a step; None if there is none."""
    finished = [path for path in _finished(folder) if up_to is None or _step(path) <= up_to]
    if not finished:
        return None
    facts = json.loads((finished[-1] / "state.json").read_text(encoding="utf-8"))
    tensors = torch.load(finished[-1] / "state.pt", map_location="cpu", weights_only=True)
    entries = [LedgerEntry(**entry) for entry in facts["ledger"]]
    return Snapshot(facts["step"], facts["metrics"], entries, tensors)


def save_thread_count(folder: Path) -> None:
    """Write the thread count of a run that begins; another count would sum in another order."""
    if not (folder / "threads.json").exists():
        write_json_atomic(folder / "threads.json", torch.get_num_threads())


def load_thread_count(folder: Path) -> int:
    """The thread count with which the run began."""
    return int(json.loads((folder / "threads.json").read_text(encoding="utf-8")))


def _home(folder: Path) -> Path:
    return folder / "snapshots"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in _home(folder).glob("step-*/state.json"))
