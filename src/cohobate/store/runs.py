"""Run records: the recipe of each run and how it ended, so that `cohobate resume` can go on.

A record that still says "running" when its process is gone belongs to a run that was killed; it counts as unfinished.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cohobate.config import Recipe
from cohobate.core import progress
from cohobate.core.atomic_files import storage_errors
from cohobate.core.errors import DamagedFileError, UserError
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json
from cohobate.store.artifacts import data_root

Status = Literal["running", "done", "failed", "interrupted", "awaiting"]


class RunRecord(BaseModel):
    """One run of a recipe; times are UTC. flow_run_id: Prefect's, of a run that a deployment started."""

    model_config = ConfigDict(extra="forbid")

    id: str
    flow: str = "distill"
    flow_run_id: str | None = None
    recipe: dict[str, Any]
    until: str
    status: Status = "running"
    pid: int
    host: str
    started_at: str
    finished_at: str | None = None
    error: str | None = None
    artifacts: list[str] = []

    @field_validator("recipe")
    @classmethod
    def _has_a_name(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(recipe.get("name"), str):
            raise ValueError("a recipe has a name")
        return recipe

    @property
    def path(self) -> Path:
        return _folder() / f"{self.id}.json"

    def save(self) -> None:
        """Write the record; StoreError when the data folder cannot be written."""
        with storage_errors(data_root()):
            write_sealed_json(self.path, self.model_dump(mode="json"))


def begin(recipe: Recipe, until: str, *, flow: str = "distill", flow_run_id: str | None = None) -> RunRecord:
    """A record of this process, saved as running: a new one, or that of the flow run which is tried again."""
    earlier = of_flow_run(flow_run_id) if flow_run_id else None
    process = {"pid": os.getpid(), "host": socket.gethostname()}
    if earlier:
        record = earlier.model_copy(update={**process, "status": "running", "finished_at": None, "error": None})
        record.save()
        return record
    now = datetime.now(UTC)
    record = RunRecord(
        id=f"{recipe.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        flow=flow,
        flow_run_id=flow_run_id,
        recipe=recipe.model_dump(mode="json"),
        until=until,
        started_at=now.isoformat(timespec="milliseconds"),
        **process,
    )
    record.save()
    return record


def add_artifact(run_id: str, artifact_id: str) -> None:
    """Note in the record of a run that it has this artifact: the artifacts of a killed run are recorded too."""
    path = _folder() / f"{run_id}.json"
    if path.is_file():
        try:
            record = read_record(path)
        except DamagedFileError as error:
            progress.say(f"{error}; that the run has {artifact_id} is not noted")
            return
        if artifact_id not in record.artifacts:
            record.model_copy(update={"artifacts": [*record.artifacts, artifact_id]}).save()


def of_flow_run(flow_run_id: str) -> RunRecord | None:
    """The record of a flow run of Prefect's."""
    return next((record for record in all_records() if record.flow_run_id == flow_run_id), None)


def is_on_this_machine(record: RunRecord) -> bool:
    """Whether the record's process is, or was, of this machine."""
    return record.host == socket.gethostname()


def is_alive(record: RunRecord) -> bool:
    """Whether the record's process, which must be of this machine, is there."""
    if record.status != "running" or not is_on_this_machine(record):
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(record: RunRecord, status: Status, error: str | None = None) -> None:
    """Save how the run ended; its artifacts are those of `add_artifact`."""
    try:
        latest = read_record(record.path)
    except DamagedFileError:  # deleted, or damaged while the run lasted
        latest = record
    ended = {
        "status": status,
        "finished_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "error": error,
    }
    latest.model_copy(update=ended).save()


def record_paths() -> list[Path]:
    """The file of each record, by name."""
    return sorted(_folder().glob("*.json"))


def all_records() -> list[RunRecord]:
    """All records that can be read, oldest first; the others are reported."""
    records = []
    for path in record_paths():
        try:
            records.append(read_record(path))
        except DamagedFileError as error:
            progress.say(f"{error}; the run is passed over, and what it made is still there")
    return sorted(records, key=lambda record: record.started_at)


def named(name: str) -> RunRecord:
    """The run whose id is `name`, or begins with it. Raises UserError where there is none, or more than one."""
    records = all_records()
    matches = [record for record in records if record.id == name] or [
        record for record in records if record.id.startswith(name)
    ]
    if len(matches) != 1:
        last = ", ".join(record.id for record in records[-5:]) or "none"
        raise UserError(f"'{name}' names {len(matches)} runs; the newest runs are: {last}")
    return matches[0]


def newest() -> RunRecord:
    """The run that was begun last. Raises UserError where there is none."""
    records = all_records()
    if not records:
        raise UserError(f"there is no run in {data_root()}; start one with `cohobate run RECIPE`")
    return records[-1]


def to_resume(name: str | None) -> RunRecord:
    """The named run, or the newest unfinished one. Raises UserError when there is none."""
    if name:
        return named(name)
    records = all_records()
    unfinished = [record for record in records if record.status != "done"]
    # A later run of the same recipe that is done has finished the earlier one's work too.
    for record in reversed(unfinished):
        same = [r for r in records if r.recipe == record.recipe and r.flow == record.flow]
        later = [r for r in same if r.started_at > record.started_at]
        if not any(r.status == "done" and r.until == record.until for r in later):
            return record
    raise UserError(f"there is no unfinished run in {data_root()}; start one with `cohobate run RECIPE`")


def read_record(path: Path) -> RunRecord:
    """The record in a file. Raises DamagedFileError for one that is damaged, or of another version."""
    try:
        return RunRecord.model_validate(read_sealed_json(path, unsealed=True))
    except ValidationError:
        raise DamagedFileError(f"{path} cannot be read as the record of a run") from None


def _folder() -> Path:
    return data_root() / "runs"
