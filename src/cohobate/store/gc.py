"""Garbage collection in the data folder: `cohobate gc`.

These stay: the promoted artifacts, those of the newest runs of each recipe and of unfinished runs, and all of their
ancestors; what was made of them on request (labels, curated triples); and builds that were active lately. Responses
are never deleted: they were paid for. Exports, pages and logs are left alone too.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cohobate.core.atomic_files import storage_errors
from cohobate.core.errors import StoreError
from cohobate.store import promotion, runs
from cohobate.store.artifacts import DERIVED, STAGES, Artifact, Store
from cohobate.store.runs import RunRecord

_ABANDONED_SECONDS = 7 * 24 * 3600  # without a write, after which a build counts as abandoned
_DELETED = ".deleted"


@dataclass(frozen=True)
class Garbage:
    """A folder or a run's record that can be deleted, and the reason."""

    path: Path
    bytes: int
    why: str


@dataclass(frozen=True)
class Plan:
    """The garbage and the artifacts that stay; bytes of both."""

    garbage: list[Garbage]
    survivors: list[Artifact]
    survivor_bytes: int

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.garbage)


def plan(keep: int) -> Plan:
    """The garbage that `cohobate gc` would delete. keep: finished runs of each recipe and flow that stay, the newest.

    Raises StoreError for a promotion that cannot be read: its artifacts could not be told from garbage.
    """
    store, records = Store(), runs.all_records()
    surviving_runs = _surviving_runs(records, keep)
    roots = {name for record in surviving_runs for name in record.artifacts}
    roots |= {name for pointer in promotion.all_promotions() for name in pointer.artifacts.values()}
    artifacts = store.all()
    survivors = _reachable(artifacts, roots)
    fingerprints = {artifact.fingerprint for artifact in survivors}
    # Children before parents: a deletion that is interrupted leaves nothing without its origin.
    unused = [artifact for artifact in reversed(artifacts) if artifact.fingerprint not in fingerprints]
    garbage = [
        *(Garbage(artifact.path, _size(artifact.path), "no kept run was made from it") for artifact in unused),
        *_leftovers(store),
        *(
            Garbage(record.path, record.path.stat().st_size, "the record of an old run")
            for record in records
            if record not in surviving_runs
        ),
    ]
    return Plan(garbage, survivors, sum(_size(artifact.path) for artifact in survivors))


def sweep(plan: Plan) -> None:
    """Delete the garbage of `plan`. Raises StoreError while a run is at work, and when the folder cannot be written."""
    busy = [record for record in runs.all_records() if runs.is_alive(record)]
    if busy:
        raise StoreError(f"run {busy[0].id} is at work and may need what would be deleted; try again when it has ended")
    with storage_errors(Store().root):
        for each in plan.garbage:
            if each.path.is_dir():
                # Renamed at once to a name that is no artifact's: half an artifact would be a damaged one.
                doomed = each.path.with_name(f".{each.path.name}{_DELETED}")
                each.path.rename(doomed)
                shutil.rmtree(doomed)
            else:
                each.path.unlink(missing_ok=True)


def _surviving_runs(records: Sequence[RunRecord], keep: int) -> list[RunRecord]:
    """Of each recipe and flow the newest `keep` that are done, and those that started after the last of them."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.recipe["name"], record.flow].append(record)
    survivors = []
    for group in groups.values():
        done = [record for record in group if record.status == "done"]
        newest = done[len(done) - min(keep, len(done)) :]
        last = done[-1].started_at if done else ""
        survivors += [
            record for record in group if record in newest or (record.status != "done" and record.started_at > last)
        ]
    return survivors


def _reachable(artifacts: Sequence[Artifact], roots: set[str]) -> list[Artifact]:
    """The artifacts of `roots` with all their ancestors, and what was made of these on request; oldest first."""
    parents = {a.fingerprint: {parent.fingerprint for parent in a.manifest.parents} for a in artifacts}
    reached = {artifact.fingerprint for artifact in artifacts if artifact.id in roots}
    queue = list(reached)
    while queue:
        new = parents.get(queue.pop(), set()) - reached
        reached |= new
        queue += new
    for artifact in artifacts:
        on_request = artifact.stage in DERIVED or artifact.manifest.recipe.endswith(".curated")
        if on_request and parents[artifact.fingerprint] <= reached:
            reached.add(artifact.fingerprint)
    return [artifact for artifact in artifacts if artifact.fingerprint in reached]


def _leftovers(store: Store) -> Iterator[Garbage]:
    """Damaged artifacts that were moved aside, abandoned builds, and deletions that were interrupted."""
    for stage in (*STAGES, *DERIVED):
        folder = store.root / stage
        for path in sorted(folder.glob(f".*{_DELETED}")):
            yield Garbage(path, _size(path), "half deleted")
    for path in store.damaged():
        yield Garbage(path, _size(path), "a damaged artifact")
    for path in store.partial():
        if time.time() - _touched(path) > _ABANDONED_SECONDS:
            yield Garbage(path, _size(path), "a build that was given up")


def _touched(folder: Path) -> float:
    """The newest time of a write below `folder`, in seconds since the epoch."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
