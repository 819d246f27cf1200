"""What an artifact was made from, as far as it is still stored, and only if it is as it was written."""

from __future__ import annotations

from cohobate.core.errors import DamagedFileError
from cohobate.store.artifacts import Artifact, Store
from cohobate.store.manifest import read_manifest


def origin(artifact: Artifact, stage: str) -> Artifact | None:
    """The artifact of `stage` that `artifact` was made from; None where there is none, or it is not stored any more.

    Raises DamagedFileError, which names the file, for one that was altered.
    """
    fingerprint = next((parent.fingerprint for parent in artifact.manifest.parents if parent.stage == stage), None)
    if fingerprint is None:
        return None
    store = Store(artifact.path.parents[1])
    if any(each.fingerprint == fingerprint for each in store.all()):
        return store.open(fingerprint)
    for folder in store.unreadable():
        if folder.parent.name == stage and folder.name.endswith(f"-{fingerprint[:8]}"):
            try:
                read_manifest(folder)
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}; run its recipe again, which rebuilds it") from None
    return None
