"""The artifact store: fingerprints in, finished folders out. The only cache.

    data/<stage>/<recipe>-<8 hex>/           the artifact: its files, and manifest.json, written last
    data/<stage>/<recipe>-<8 hex>.partial/   one being built; survives kills, so that its build can resume
    data/<stage>/<recipe>-<8 hex>.damaged-1/ one of which a file was altered; `cohobate gc` deletes it
    data/<stage>/.<8 hex>.lock               held by the process that builds it, or moves it aside

An artifact is done when its manifest stands and all of its files are there, byte for byte. Anything else is reported
and rebuilt.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cohobate.config import Recipe
from cohobate.core import context, memory, progress
from cohobate.core.atomic_files import storage_errors, sweep, sync_folder, sync_tree
from cohobate.core.errors import CohobateError, DamagedFileError, OtherVersionError, StoreError
from cohobate.core.fingerprint import artifact_fingerprint, hash_file
from cohobate.core.locks import exclusive
from cohobate.core.sealed_files import move_aside
from cohobate.store.compute_ledger import LedgerEntry
from cohobate.store.folders import is_artifact, is_damaged, lock
from cohobate.store.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    Metrics,
    Parent,
    Score,
    code_version,
    environment,
    read_manifest,
    write_manifest,
)

STAGES = ("questions", "triples", "sft", "opd", "evaluation", "report")
# Artifacts made on request or by an experiment: no stages of a distillation.
DERIVED = (
    *("labels", "comparison", "policy", "judge", "chat", "midtrain", "exam", "recovery", "single", "suites"),
    *("gathered", "night"),
)
# One of them: verdicts of stored triples by another verifier, which curation and diff read.
LABELS = "labels"
DATA = "COHOBATE_DATA"
_SCRATCH = "scratch"


def data_root() -> Path:
    """Root of all artifacts: COHOBATE_DATA, or data/ under the working directory."""
    return Path(os.environ.get(DATA) or "data")


@dataclass(frozen=True)
class Artifact:
    """A finished result of a stage, by reference: small enough to travel between tasks."""

    id: str
    stage: str
    path: Path
    fingerprint: str
    cached: bool = False

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.path)


@dataclass(frozen=True)
class Outcome:
    """The result of a build beside its files. An evaluation has scores in place of metrics."""

    rows: int | None = None
    metrics: Metrics = field(default_factory=dict)
    ledger: list[LedgerEntry] = field(default_factory=list)
    scores: Sequence[Score] | None = None


@dataclass(frozen=True)
class Workspace:
    """The folder of a build: files in `path` are published; those in `scratch` are deleted then, and survive a kill."""

    path: Path
    fingerprint: str

    @property
    def scratch(self) -> Path:
        folder = self.path / _SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder


Build = Callable[[Workspace], Outcome]


class NotInStoreError(CohobateError):
    """An artifact is not in the store, and the context is `lookup_only`."""


class Store:
    """All artifacts below one root."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = data_root() if root is None else root

    def produce(
        self,
        stage: str,
        *,
        recipe: Recipe,
        version: int,
        identity: dict[str, Any],
        parents: Sequence[Artifact],
        build: Build,
    ) -> Artifact:
        """The artifact of these inputs: from the store if it is there and undamaged, else built now.

        A build that was killed is called again with the same workspace. A damaged artifact is reported, moved aside
        and rebuilt. Raises StoreError when the folder cannot be written, NotInStoreError where the context only looks
        up, and whatever `build` raises.
        """
        fingerprint = artifact_fingerprint(stage, version, identity, [parent.fingerprint for parent in parents])
        artifact_id = f"{stage}/{recipe.name}-{fingerprint[:8]}"
        artifact = self._lookup(stage, fingerprint)
        if artifact:
            return artifact
        if context.current().lookup_only:
            raise NotInStoreError(f"{artifact_id} is not there yet")
        with storage_errors(self.root), exclusive(lock(self.root / stage, fingerprint), artifact_id):
            # Another process may have built it while we waited, or have been at what seemed damaged.
            artifact = self._lookup(stage, fingerprint, locked=True)
            if artifact:
                return artifact
            job = _Job(self.root, artifact_id, stage, recipe, version, identity, fingerprint, tuple(parents))
            with context.current().slot(artifact_id):
                return job.run(build)

    def all(self) -> list[Artifact]:
        """Every finished artifact, oldest first."""
        artifacts = [artifact for stage in (*STAGES, *DERIVED) for artifact in self._finished(stage)]
        return sorted(artifacts, key=lambda artifact: artifact.manifest.created_at)

    def partial(self) -> list[Path]:
        """Folders of builds that were begun and not finished."""
        return sorted(self.root.glob("*/*.partial"))

    def unreadable(self) -> list[Path]:
        """Folders of artifacts whose manifest cannot be read."""
        return [folder for stage in (*STAGES, *DERIVED) for folder in self._folders(stage) if not _readable(folder)]

    def damaged(self) -> list[Path]:
        """Folders of damaged artifacts that were moved aside."""
        return [path for path in sorted(self.root.glob("*/*.damaged-*")) if is_damaged(path)]

    def open(self, name: str) -> Artifact:
        """The artifact that `find` finds, once all of its files are as its manifest says.

        Raises DamagedFileError, which names the file, and StoreError as `find`.
        """
        artifact = self.find(name)
        try:
            verify(artifact)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}; run its recipe again, which rebuilds it") from None
        return artifact

    def find(self, name: str) -> Artifact:
        """The artifact whose id, fingerprint or end of id is `name`, or begins with it.

        Raises StoreError when there is none, or more than one.
        """
        artifacts = self.all()
        exact = [a for a in artifacts if name in (a.id, a.fingerprint, str(a.path))]
        matches = exact or [
            a
            for a in artifacts
            if a.id.startswith(name) or a.fingerprint.startswith(name) or a.path.name.startswith(name)
        ]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise StoreError(f"there is no artifact '{name}' in {self.root}; `cohobate ls` lists them")
        names = ", ".join(a.id for a in matches[:4])
        raise StoreError(f"'{name}' fits {len(matches)} artifacts ({names} ...); give more of the id")

    def _finished(self, stage: str) -> Iterator[Artifact]:
        for folder in self._folders(stage):
            try:
                manifest = read_manifest(folder)
            except OtherVersionError as error:
                progress.say(str(error))
            except DamagedFileError as error:
                progress.say(f"{error}; the next run that needs it rebuilds it")
            else:
                yield Artifact(manifest.id, stage, folder, manifest.fingerprint)

    def _folders(self, stage: str, end: str = "") -> list[Path]:
        """Folders with a manifest, readable or not, whose name ends with `end`."""
        folders = [path.parent for path in sorted((self.root / stage).glob(f"*{end}/{MANIFEST}"))]
        return [folder for folder in folders if is_artifact(folder)]

    def _lookup(self, stage: str, fingerprint: str, *, locked: bool = False) -> Artifact | None:
        """The finished artifact of this fingerprint, under whatever recipe's name, if it is undamaged.

        A damaged one is moved aside where its lock is held. Raises OtherVersionError for one that another version of
        the program wrote.
        """
        for folder in self._folders(stage, f"-{fingerprint[:8]}"):
            try:
                artifact = _whole(stage, folder, fingerprint)
            except OtherVersionError:
                raise
            except DamagedFileError as error:
                if locked:
                    progress.say(f"{error}; it is moved aside and rebuilt")
                    move_aside(folder)
                continue
            if artifact:
                return artifact
        return None


def _whole(stage: str, folder: Path, fingerprint: str) -> Artifact | None:
    """The undamaged artifact in `folder`; None where it is another one. Raises DamagedFileError."""
    manifest = read_manifest(folder)
    if manifest.fingerprint != fingerprint:
        return None
    artifact = Artifact(manifest.id, stage, folder, fingerprint, cached=True)
    verify(artifact)
    return artifact


def _readable(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except DamagedFileError:
        return False
    return True


def verify(artifact: Artifact) -> None:
    """Check every file of the manifest by size and sha256. Raises DamagedFileError, which names the file."""
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        if not path.is_file():
            raise DamagedFileError(f"{path} is missing, though {artifact.id} was finished")
        try:
            altered = path.stat().st_size != entry.bytes or hash_file(path) != entry.sha256
        except OSError as error:
            raise DamagedFileError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        if altered:
            raise DamagedFileError(f"{path} was altered after {artifact.id} was finished")


@dataclass(frozen=True)
class _Job:
    """One artifact being built."""

    root: Path
    artifact_id: str
    stage: str
    recipe: Recipe
    version: int
    identity: dict[str, Any]
    fingerprint: str
    parents: tuple[Artifact, ...]

    @property
    def folder(self) -> Path:
        """The folder of the finished artifact."""
        return self.root / self.artifact_id

    @property
    def detached_scratch(self) -> Path:
        """The place of the scratch between the publication of the files and the manifest."""
        return self.folder.with_name(f".{self.folder.name}.scratch")

    def run(self, build: Build) -> Artifact:
        started, clock = _now(), time.monotonic()
        workspace = self._workspace()
        outcome = build(workspace)
        memory.return_freed_memory()
        self._detach_scratch(workspace)
        files = [
            FileEntry(
                path=path.relative_to(workspace.path).as_posix(),
                bytes=path.stat().st_size,
                sha256=hash_file(path),
            )
            for path in sorted(workspace.path.rglob("*"))
            if path.is_file()
        ]
        sync_tree(workspace.path)
        workspace.path.rename(self.folder)
        sync_folder(self.folder.parent)
        write_manifest(self.folder, self._manifest(outcome, files, started, time.monotonic() - clock))
        sync_folder(self.folder)
        shutil.rmtree(self.detached_scratch, ignore_errors=True)
        return Artifact(self.artifact_id, self.stage, self.folder, self.fingerprint)

    def _workspace(self) -> Workspace:
        """The folder to build in, with whatever an earlier attempt left there."""
        partial = self.folder.with_name(f"{self.folder.name}.partial")
        if self.folder.exists():  # killed between the rename and the manifest, or the manifest was deleted
            progress.say(f"{self.folder / MANIFEST} is missing; {self.artifact_id} is built again")
            shutil.rmtree(partial, ignore_errors=True)
            self.folder.rename(partial)
        partial.mkdir(parents=True, exist_ok=True)
        sweep(partial)
        if self.detached_scratch.exists():  # killed after the scratch was detached
            shutil.rmtree(partial / _SCRATCH, ignore_errors=True)
            self.detached_scratch.rename(partial / _SCRATCH)
        return Workspace(partial, self.fingerprint)

    def _detach_scratch(self, workspace: Workspace) -> None:
        """Move the scratch out of what is published; it is deleted only when the manifest stands."""
        shutil.rmtree(self.detached_scratch, ignore_errors=True)
        workspace.scratch.rename(self.detached_scratch)

    def _manifest(self, outcome: Outcome, files: list[FileEntry], started: str, seconds: float) -> Manifest:
        return Manifest(
            id=self.artifact_id,
            stage=self.stage,
            recipe=self.recipe.name,
            fingerprint=self.fingerprint,
            identity=self.identity,
            config=self.recipe.model_dump(mode="json"),
            parents=[Parent(id=p.id, stage=p.stage, fingerprint=p.fingerprint) for p in self.parents],
            files=files,
            rows=outcome.rows,
            metrics=outcome.metrics if outcome.scores is None else [score.as_row() for score in outcome.scores],
            ledger=[item.as_dict() for item in outcome.ledger],
            code={**code_version(), "stage_version": self.version},
            environment=environment(),
            started_at=started,
            created_at=_now(),
            seconds=round(seconds, 3),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
