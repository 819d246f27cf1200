"""Snapshots of a training run, each written completely or not at all; the newest few stay.

A snapshot is a folder `step-000050/` with state.pt (tensors) and, written last, state.json (step, metrics, ledger, the
sha256 of state.pt, and a seal). One that was altered is moved aside, and the run resumes from an older one.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cohobate.core import progress
from cohobate.core.atomic_files import read_json, sync_folder
from cohobate.core.errors import DamagedFileError
from cohobate.core.fingerprint import hash_file
from cohobate.core.sealed_files import move_aside
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.training.types import Metrics

_FACTS = {"step", "metrics", "ledger"}
_WEIGHTS = "sha256"  # of state.pt


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
    write_sealed_json(final / "state.json", {**facts, _WEIGHTS: hash_file(final / "state.pt")})
    sync_folder(final.parent)
    for old in _finished(folder)[:-keep]:
        _delete(old)


def load_latest(folder: Path, up_to: int | None = None) -> Snapshot | None:
    """The latest finished snapshot, or the latest up to a step; None if there is none."""
    finished = [path for path in _finished(folder) if up_to is None or _step(path) <= up_to]
    if not finished:
        return None
    return _load(finished[-1])


def latest_step(folder: Path) -> int:
    """The step of the latest finished snapshot; 0 if there is none."""
    return max(map(_step, _finished(folder)), default=0)


def set_damaged_aside(folder: Path) -> None:
    """Report and move aside every snapshot that is not as it was written; in one process, before any is loaded."""
    for path in _finished(folder):
        try:
            _check(path)
        except DamagedFileError as error:
            progress.say(f"{error}; the snapshot is moved aside")
            move_aside(path)


def drop_after(folder: Path, step: int) -> None:
    """Delete the snapshots after `step`."""
    for path in _finished(folder):
        if _step(path) > step:
            _delete(path)


def save_thread_count(folder: Path) -> None:
    """Write the thread count of a run that begins; another count would sum in another order."""
    if not (folder / "threads.json").exists():
        write_sealed_json(folder / "threads.json", {"threads": torch.get_num_threads()})


def load_thread_count(folder: Path) -> int:
    """The thread count with which the run began. Raises DamagedFileError where nobody can know it any more."""
    path = folder / "threads.json"
    try:
        return int(read_sealed_json(path)["threads"])
    except DamagedFileError as error:
        if isinstance(count := _bare(path), int):  # of an earlier version
            return count
        raise DamagedFileError(
            f"{error}, and says with how many threads the run began; delete it to go on with "
            f"{torch.get_num_threads()}, with which the last bits may come out otherwise"
        ) from None


def _bare(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return None


def _facts(path: Path) -> dict[str, Any]:
    """The content of state.json, that of an earlier version without the checksum of the tensors. DamagedFileError."""
    facts = read_sealed_json(path / "state.json", unsealed=True)
    if facts.keys() not in ({*_FACTS, _WEIGHTS}, _FACTS):
        raise DamagedFileError(f"{path / 'state.json'} was altered after it was written")
    return facts


def _check(path: Path) -> None:
    """Raises DamagedFileError for a snapshot that is not as it was written."""
    facts, tensors = _facts(path), path / "state.pt"
    try:
        altered = facts[_WEIGHTS] != hash_file(tensors) if _WEIGHTS in facts else not _load(path).tensors
    except Exception as error:  # of any kind: torch, pickle and zip have their own
        raise DamagedFileError(f"{tensors} cannot be read ({type(error).__name__})") from None
    if altered:
        raise DamagedFileError(f"{tensors} was altered after it was written")


def _load(path: Path) -> Snapshot:
    facts = _facts(path)
    tensors = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    entries = [LedgerEntry(**entry) for entry in facts["ledger"]]
    return Snapshot(facts["step"], facts["metrics"], entries, tensors)


def _delete(path: Path) -> None:
    # The marker goes first: a half-deleted snapshot must not look finished.
    (path / "state.json").unlink()
    shutil.rmtree(path)


def _home(folder: Path) -> Path:
    return folder / "snapshots"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _finished(folder: Path) -> list[Path]:
    paths = (path.parent for path in _home(folder).glob("step-*/state.json"))
    return sorted(path for path in paths if path.name.removeprefix("step-").isdigit())
