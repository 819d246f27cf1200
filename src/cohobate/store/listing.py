"""The list of all artifacts and unfinished builds, as `cohobate ls` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cohobate.core.errors import DamagedFileError
from cohobate.core.locks import is_held
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Store, verify
from cohobate.store.folders import lock, split

Status = Literal["done", "damaged", "building", "stopped"]
"""building: a process is at work on it. stopped: none is, since it failed or was interrupted; a run goes on with it."""


@dataclass(frozen=True)
class ListedArtifact:
    """An artifact. Of one that is unfinished, or has no readable manifest, the fingerprint is the beginning of it.

    promoted: whether it is the promoted one of its recipe.
    """

    id: str
    stage: str
    recipe: str
    fingerprint: str
    path: str
    rows: int | None
    bytes: int
    created_at: str | None
    status: Status
    promoted: bool


def list_artifacts() -> list[ListedArtifact]:
    """Every artifact, oldest first, then those without a readable manifest, then every unfinished build."""
    store = Store()
    promoted = {fingerprint for each in promotion.readable() for fingerprint in each.fingerprints.values()}
    finished = [_finished(artifact, artifact.fingerprint in promoted) for artifact in store.all()]
    damaged = [_without_manifest(path, "damaged") for path in store.unreadable()]
    unfinished = [_without_manifest(path, _status(path)) for path in store.partial()]
    return [*finished, *damaged, *unfinished]


def _status(partial: Path) -> Status:
    _, fingerprint = split(partial.name.removesuffix(".partial"))
    return "building" if is_held(lock(partial.parent, fingerprint)) else "stopped"


def _finished(artifact: Artifact, promoted: bool) -> ListedArtifact:
    manifest = artifact.manifest
    status: Status = "done"
    try:
        verify(artifact)
    except DamagedFileError:
        status = "damaged"
    return ListedArtifact(
        id=manifest.id,
        stage=manifest.stage,
        recipe=manifest.recipe,
        fingerprint=manifest.fingerprint,
        path=str(artifact.path),
        rows=manifest.rows,
        bytes=sum(entry.bytes for entry in manifest.files),
        created_at=manifest.created_at,
        status=status,
        promoted=promoted,
    )


def _without_manifest(folder: Path, status: Status) -> ListedArtifact:
    """A folder of which nothing but the name and the size is known."""
    name = folder.name.removesuffix(".partial")
    recipe, fingerprint = split(name)
    return ListedArtifact(
        id=f"{folder.parent.name}/{name}",
        stage=folder.parent.name,
        recipe=recipe,
        fingerprint=fingerprint,
        path=str(folder),
        rows=None,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        created_at=None,
        status=status,
        promoted=False,
    )
