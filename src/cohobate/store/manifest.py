"""The manifest of an artifact: its identity, its parents, and the checksums of its files."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cohobate import __version__
from cohobate.core.errors import DamagedFileError, OtherVersionError, StoreError
from cohobate.core.sealed_json import read_json_object, read_sealed_json, write_sealed_json
from cohobate.core.statistics import Interval

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
# In an evaluation: the student that was promoted before, and in its identity that student's fingerprint.
PROMOTED = "promoted"
_LIBRARIES = ("torch", "transformers", "polars", "pyarrow", "prefect")


class FileEntry(BaseModel):
    """One published file; `path` is relative to the artifact's folder."""

    path: str
    bytes: int
    sha256: str


class Parent(BaseModel):
    """An artifact that another one was made from."""

    id: str
    stage: str
    fingerprint: str


Metrics = dict[str, Any]
"""Named JSON values: the measurements that a stage reports of its result."""


@dataclass(frozen=True)
class Score:
    """The accuracy of one model on one set of questions: a row of the metrics of an evaluation.

    n counts responses. questions and k: how many questions were asked, how often each. details: whatever else one kind
    of evaluation measures, as JSON values.
    """

    student: str
    suite: str
    split: str
    decoding: Literal["greedy", "sampled"]
    seed: int
    n: int
    accuracy: Interval
    questions: int | None = None
    k: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_row(self) -> Metrics:
        """{student, suite, split, decoding, seed, n, questions, k, accuracy, low, high, ...}, without absent counts."""
        names = ("student", "suite", "split", "decoding", "seed", "n", "questions", "k")
        row = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**row, **self.accuracy.as_row("accuracy"), **self.details}

    @classmethod
    def from_row(cls, row: Metrics) -> Self:
        """The score that `as_row` gave."""
        names = ("student", "suite", "split", "decoding", "seed", "n", "questions", "k")
        details = {name: value for name, value in row.items() if name not in (*names, "accuracy", "low", "high")}
        own = {name: row[name] for name in names if name in row}
        return cls(**own, accuracy=Interval.from_row(row, "accuracy"), details=details)


class Manifest(BaseModel):
    """The record of a finished artifact, written last.

    identity: the settings in the fingerprint. config: the complete resolved recipe. Times are UTC in ISO 8601.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    id: str
    stage: str
    recipe: str
    fingerprint: str
    identity: dict[str, Any]
    config: dict[str, Any]
    parents: list[Parent]
    files: list[FileEntry]
    rows: int | None
    metrics: Metrics | list[Metrics]
    ledger: list[dict[str, Any]]
    code: dict[str, Any]
    environment: dict[str, Any]
    started_at: str
    created_at: str
    seconds: float

    @property
    def has_scores(self) -> bool:
        """Whether the metrics are scores, those of an evaluation."""
        return isinstance(self.metrics, list)

    @property
    def named_metrics(self) -> Metrics:
        """The metrics of a stage other than an evaluation. Raises StoreError for an evaluation."""
        if isinstance(self.metrics, list):
            raise StoreError(f"{self.id} holds the scores of models, not metrics by name")
        return self.metrics

    @property
    def scores(self) -> list[Score]:
        """The metrics of an evaluation. Raises StoreError for another stage."""
        if isinstance(self.metrics, dict):
            raise StoreError(f"{self.id} is no evaluation, and holds no scores")
        return [Score.from_row(row) for row in self.metrics]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` into `folder`, sealed by the sha256 of its content."""
    write_sealed_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises DamagedFileError when it was altered or cannot be read, OtherVersionError for an unknown schema version.
    """
    path = folder / MANIFEST
    schema_version = read_json_object(path).get("schema_version")
    if type(schema_version) is int and schema_version != SCHEMA_VERSION:
        raise OtherVersionError(
            f"{path} has schema version {schema_version}, and this cohobate reads {SCHEMA_VERSION}; "
            "use the cohobate that wrote it, or move the folder away to rebuild it"
        )
    try:
        return Manifest.model_validate(read_sealed_json(path))
    except ValidationError:
        raise DamagedFileError(f"{path} cannot be read as a manifest") from None


@cache
def code_version() -> dict[str, Any]:
    """Version of cohobate, and of its git checkout where it runs from one."""
    here = Path(__file__).parents[1]  # the whole package

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(here), *arguments]
            result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {
        "cohobate": __version__,
        "git": commit,
        "dirty": bool(git("status", "--porcelain", "--", ".")) if commit else None,
    }


@cache
def environment() -> dict[str, Any]:
    """The environment that results depend on besides the code: interpreter, libraries, machine."""

    def library(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        **{name: library(name) for name in _LIBRARIES},
    }
