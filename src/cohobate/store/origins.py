"""What an artifact was made from, as far as it is still stored, and only if it is as it was written."""

from __future__ import annotations

from cohobate.core.errors import DamagedFileError, OtherVersionError
from cohobate.store.artifacts import Artifact, verify
from cohobate.store.folders import is_artifact
from cohobate.store.manifest import MANIFEST, read_manifest


def origin(artifact: Artifact, stage: str) -> Artifact | None:
    """The artifact of `stage` that `artifact` was made from; None where there is none, or it is not stored any more.

    Raises DamagedFileError, which names the file, for one that was altered.
    """
    fingerprint = next((parent.fingerprint for parent in artifact.manifest.parents if parent.stage == stage), None)
    if fingerprint is None:
        return None
    # By the name, which ends with the fingerprint: reading every manifest of a large store takes a minute.
    for path in sorted((artifact.path.parents[1] / stage).glob(f"*-{fingerprint[:8]}/{MANIFEST}")):
        if not is_artifact(path.parent):
            continue
        try:
            manifest = read_manifest(path.parent)
            if manifest.fingerprint != fingerprint:
                continue
            parent = Artifact(manifest.id, stage, path.parent, fingerprint)
            verify(parent)
        except OtherVersionError:
            continue
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}; run its recipe again, which rebuilds it") from None
        return parent
    return None
