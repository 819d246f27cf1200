"""Snapshots of a training run: published whole or not at all, the newest few kept.

A snapshot is a folder `step-000050/` with state.pt (tensors) and, written last, state.json (step, metrics, ledger).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from cohobate.core.atomic_files import sync_folder, write_json_atomic


def publish(folder: Path, step: int, state: dict[str, Any], facts: dict[str, Any], keep: int = 2) -> None:
    """Save the snapshot of `step` under `folder`/snapshots and drop all but the newest `keep`."""
    final = _home(folder) / f"step-{step:06d}"
    unfinished = final.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with (unfinished / "state.pt").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)  # left without state.json by a kill
    unfinished.rename(final)
    write_json_atomic(final / "state.json", facts)
    sync_folder(final.parent)
    for old in _finished(folder)[:-keep]:
        # The marker goes first: a half-deleted snapshot must not look like one.
        (old / "state.json").unlink()
        shutil.rmtree(old)


def newest(folder: Path, up_to: int | None = None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(state, facts) of the newest finished snapshot, or of the newest up to a step; None if there is none."""
    finished = [path for path in _finished(folder) if up_to is None or _step(path) <= up_to]
    if not finished:
        return None
    facts = json.loads((finished[-1] / "state.json").read_text(encoding="utf-8"))
    state = torch.load(finished[-1] / "state.pt", map_location="cpu", weights_only=True)
    return state, facts


def fix_threads(folder: Path) -> None:
    """Note the thread count with which this run begins: another count would sum in another order."""
    if not (folder / "threads.json").exists():
        write_json_atomic(folder / "threads.json", torch.get_num_threads())


def fixed_threads(folder: Path) -> int:
    """The thread count with which this run began."""
    return int(json.loads((folder / "threads.json").read_text(encoding="utf-8")))


def _home(folder: Path) -> Path:
    return folder / "snapshots"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in _home(folder).glob("step-*/state.json"))
