"""Writes the snapshots of a run: at once, or beside training, in a thread and from copies in the host's memory.

A GPU waits neither for the disk nor for the checksum. On a CPU the thread would take the time from the training itself,
and the copies memory.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cohobate.training import snapshots
from cohobate.training.prefetch import Prefetch
from cohobate.training.snapshots import Snapshot


class SnapshotWriter:
    """Keeps the newest `keep` snapshots below `folder`; at most one is being written."""

    def __init__(self, folder: Path, keep: int, *, beside: bool) -> None:
        self.folder, self.keep, self.beside = folder, keep, beside
        self._writing: Prefetch[None] = Prefetch(lambda: None)

    def write(self, snapshot: Snapshot) -> None:
        """Write `snapshot`, or begin to; what it holds may change afterwards."""
        self.wait()
        if not self.beside:
            snapshots.save(self.folder, snapshot, self.keep)
            return
        copied = replace(snapshot, metrics=list(snapshot.metrics), tensors=_on_host(snapshot.tensors))
        self._writing.start(snapshot.step, lambda: snapshots.save(self.folder, copied, self.keep))

    def wait(self) -> None:
        """Return when the snapshot that is being written is on disk. Raises what writing it raised."""
        self._writing.wait()


def _on_host(value: Any) -> Any:
    """A deep copy of nested state dicts, with every tensor in the memory of the host."""
    if torch.is_tensor(value):
        return value.to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _on_host(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_on_host(part) for part in value]
    return copy.deepcopy(value)
