"""The list of all artifacts and unfinished builds, as `cohobate ls` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cohobate.core.errors import DamagedFileError
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Store, verify
from cohobate.store.folders import split

Status = Literal["done", "damaged", "building"]


@dataclass(frozen=True)
class ListedArtifact:
    """An artifact. Of one that is being built, or has no readable manifest, the fingerprint is the beginning of it.

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
    return [*finished, *damaged, *(_without_manifest(path, "building") for path in store.partial())]


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
