"""What of the data folder nobody needs any more: `cohobate gc`.

Kept is what the promoted artifacts, the newest runs of each recipe and unfinished runs were made from, what was made of
kept artifacts on request (labels, curated triples), and builds that were begun lately. Responses are never deleted:
they were paid for. Exports, pages and logs are left alone too.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cohobate.core.atomic_files import storage_errors
from cohobate.core.errors import StoreError
from cohobate.store import promotion, runs
from cohobate.store.artifacts import DERIVED, STAGES, Artifact, Store
from cohobate.store.runs import RunRecord

_LATELY = 7 * 24 * 3600  # seconds; a build that nobody went on with for so long is given up
_GOING = ".deleted"


@dataclass(frozen=True)
class Garbage:
    """A folder or a run's record that can go; why: in words."""

    path: Path
    bytes: int
    why: str


@dataclass
class Plan:
    """What would be deleted and what stays; bytes of both."""

    garbage: list[Garbage] = field(default_factory=list)
    kept: list[Artifact] = field(default_factory=list)
    kept_bytes: int = 0

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.garbage)


def plan(keep: int) -> Plan:
    """What `cohobate gc` would delete. keep: finished runs of each recipe and flow that stay, the newest ones.

    Raises StoreError for a promotion that cannot be read: what it points at could not be told from garbage.
    """
    store, records = Store(), runs.everything()
    stay = _kept_runs(records, keep)
    roots = {name for record in stay for name in record.artifacts}
    roots |= {name for pointer in promotion.everything() for name in pointer.artifacts.values()}
    found = store.all()
    kept = _reachable(found, roots)
    made = Plan(kept=kept, kept_bytes=sum(_size(artifact.path) for artifact in kept))
    marks = {artifact.fingerprint for artifact in kept}
    # Children before parents: a deletion that is interrupted leaves nothing without its origin.
    for artifact in reversed(found):
        if artifact.fingerprint not in marks:
            made.garbage.append(Garbage(artifact.path, _size(artifact.path), "no kept run was made from it"))
    made.garbage += [*_leftovers(store)]
    for record in records:
        if record not in stay:
            made.garbage.append(Garbage(record.path, record.path.stat().st_size, "the record of an old run"))
    return made


def sweep(made: Plan) -> None:
    """Delete what `plan` found. Raises StoreError while a run is at work, and when the folder cannot be written."""
    busy = [record for record in runs.everything() if runs.is_alive(record)]
    if busy:
        raise StoreError(f"run {busy[0].id} is at work and may need what would be deleted; try again when it has ended")
    with storage_errors(Store().root):
        for each in made.garbage:
            if each.path.is_dir():
                # Away at once, under a name that is no artifact's: half an artifact would be a damaged one.
                going = each.path.with_name(f".{each.path.name}{_GOING}")
                each.path.rename(going)
                shutil.rmtree(going)
            else:
                each.path.unlink(missing_ok=True)


def _kept_runs(records: Sequence[RunRecord], keep: int) -> list[RunRecord]:
    """Of each recipe and flow the newest `keep` that were done, and what was begun after the last of them."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.recipe["name"], record.flow].append(record)
    kept = []
    for group in groups.values():
        done = [record for record in group if record.status == "done"]
        newest = done[len(done) - min(keep, len(done)) :]
        last = done[-1].started_at if done else ""
        kept += [
            record for record in group if record in newest or (record.status != "done" and record.started_at > last)
        ]
    return kept


def _reachable(found: Sequence[Artifact], roots: set[str]) -> list[Artifact]:
    """The artifacts of `roots` with all their ancestors, and what was made of kept ones on request; oldest first."""
    parents = {a.fingerprint: {parent.fingerprint for parent in a.manifest.parents} for a in found}
    marks = {artifact.fingerprint for artifact in found if artifact.id in roots}
    queue = list(marks)
    while queue:
        new = parents.get(queue.pop(), set()) - marks
        marks |= new
        queue += new
    for artifact in found:
        asked_for = artifact.stage in DERIVED or artifact.manifest.recipe.endswith(".curated")
        if asked_for and parents[artifact.fingerprint] <= marks:
            marks.add(artifact.fingerprint)
    return [artifact for artifact in found if artifact.fingerprint in marks]


def _leftovers(store: Store) -> Iterator[Garbage]:
    """Damaged artifacts that were moved aside, builds that were given up, and deletions that were interrupted."""
    for stage in (*STAGES, *DERIVED):
        folder = store.root / stage
        for path in sorted([*folder.glob("*.damaged-*"), *folder.glob(f".*{_GOING}")]):
            yield Garbage(path, _size(path), "a damaged artifact" if _GOING not in path.name else "half deleted")
    for path in store.partial():
        if time.time() - _touched(path) > _LATELY:
            yield Garbage(path, _size(path), "a build that was given up")


def _touched(folder: Path) -> float:
    """When something in it was last written, in seconds since the epoch."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
