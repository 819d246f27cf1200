"""The manifest: what an artifact is, what it was made from, and the proof that it is whole."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cohobate import __version__
from cohobate.core.atomic_files import write_json_atomic
from cohobate.core.errors import CohobateError, DamagedArtifactError

NAME = "manifest.json"
SCHEMA_VERSION = 1
_LIBRARIES = ("torch", "transformers", "polars", "pyarrow", "prefect")


class FileEntry(BaseModel):
    """One published file; `path` is relative to the artifact's folder."""

    path: str
    bytes: int
    sha256: str


class Parent(BaseModel):
    """An artifact that this one was made from."""

    id: str
    stage: str
    fingerprint: str


class Manifest(BaseModel):
    """Written last: where it stands, the artifact is done.

    identity is what was fingerprinted, config the whole resolved recipe; times are UTC in ISO 8601.
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
    metrics: dict[str, Any] | list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    code: dict[str, Any]
    environment: dict[str, Any]
    started_at: str
    created_at: str
    seconds: float


def write_manifest(folder: Path, made: Manifest) -> None:
    """Write `made` into `folder`, sealed by the sha256 of its content."""
    values = made.model_dump(mode="json")
    write_json_atomic(folder / NAME, {**values, "seal": _seal(values)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises DamagedArtifactError when it is not what was written, CohobateError for an unknown schema version.
    """
    path = folder / NAME
    try:
        values = json.loads(path.read_bytes())
        version_found, seal = values["schema_version"], values.pop("seal")
        if version_found == SCHEMA_VERSION and seal == _seal(values):
            return Manifest.model_validate(values)
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError):
        raise DamagedArtifactError(f"{path} cannot be read as a manifest") from None
    if version_found != SCHEMA_VERSION:
        raise CohobateError(
            f"{path} has schema version {version_found}, and this cohobate reads {SCHEMA_VERSION}; "
            "use the cohobate that wrote it, or move the folder away to rebuild it"
        )
    raise DamagedArtifactError(f"{path} was altered after it was written")


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


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
    """What the numbers depend on besides the code: interpreter, libraries, machine."""

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
