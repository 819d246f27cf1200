"""The promotion pointer: the artifacts of a recipe that others should use. Never a copy.

    data/promoted/<recipe>.json    written atomically, with a checksum

New artifacts replace the promoted ones only through the gate (datasets/gate), or by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cohobate.core import progress
from cohobate.core.atomic_files import storage_errors
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.core.locks import exclusive
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.store.artifacts import Artifact, Store, data_root, verify

_FOLDER = "promoted"


class Promotion(BaseModel):
    """The promoted artifact of each stage of a recipe. at: UTC; why: in words."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    artifacts: dict[str, str]
    fingerprints: dict[str, str]
    at: str
    why: str


def promoted(recipe: str) -> Promotion | None:
    """The promotion of the recipe of that name, if any. Raises StoreError for a pointer that cannot be read."""
    path = _path(recipe)
    return _read(path) if path.exists() else None


def all_promotions() -> list[Promotion]:
    """All promotions, by recipe. Raises StoreError as `promoted`."""
    return [_read(path) for path in sorted((data_root() / _FOLDER).glob("*.json"))]


def readable() -> list[Promotion]:
    """All promotions that can be read, by recipe; the others are reported."""
    promotions = []
    for path in sorted((data_root() / _FOLDER).glob("*.json")):
        try:
            promotions.append(_read(path))
        except StoreError as error:
            progress.say(str(error))
    return promotions


@contextmanager
def changing(recipe: str) -> Iterator[None]:
    """The right to decide on the promotion of `recipe`, and to change it: within the block no other process has it."""
    lock = data_root() / _FOLDER / f".{recipe}.lock"
    with storage_errors(data_root()), exclusive(lock, f"the promotion of {recipe}"):
        yield


def promote(recipe: str, artifacts: Sequence[Artifact], why: str) -> Promotion:
    """Point at `artifacts`, one per stage; stages that are not among them stay as they were. Within `changing`."""
    before = promoted(recipe)
    pointer = Promotion(
        recipe=recipe,
        artifacts={**(before.artifacts if before else {}), **{a.stage: a.id for a in artifacts}},
        fingerprints={**(before.fingerprints if before else {}), **{a.stage: a.fingerprint for a in artifacts}},
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        why=why,
    )
    with storage_errors(data_root()):
        write_sealed_json(_path(recipe), pointer.model_dump(mode="json"))
    return pointer


def promote_lineage(store: Store, artifact: Artifact, why: str) -> Promotion:
    """Point at `artifact` and its ancestors; of two ancestors of a stage, as of curated triples, at the nearer one.

    Raises DamagedFileError where one of them is not as its manifest says.
    """
    nearest = {each.stage: each for each in reversed(lineage(store, artifact))}
    for each in nearest.values():
        verify(each)
    with changing(artifact.manifest.recipe):
        return promote(artifact.manifest.recipe, list(nearest.values()), why)


def lineage(store: Store, artifact: Artifact) -> list[Artifact]:
    """The artifact and its ancestors, as far as they are still stored: itself first."""
    stored = {each.fingerprint: each for each in store.all()}
    ancestors, queue = {artifact.fingerprint: artifact}, [artifact]
    while queue:
        for parent in queue.pop(0).manifest.parents:
            if parent.fingerprint in stored and parent.fingerprint not in ancestors:
                ancestors[parent.fingerprint] = stored[parent.fingerprint]
                queue.append(stored[parent.fingerprint])
    return list(ancestors.values())


def _path(recipe: str) -> Path:
    return data_root() / _FOLDER / f"{recipe}.json"


def _read(path: Path) -> Promotion:
    try:
        return Promotion.model_validate(read_sealed_json(path, unsealed=True))
    except (DamagedFileError, ValidationError):
        raise StoreError(f"{path} cannot be read as a promotion; delete it, and promote again") from None
