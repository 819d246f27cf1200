"""What was submitted in batches, so that a run that is killed or ends earlier pays for no request twice.

    data/responses/batches/<key>.json

A record is written before its batch is created, and holds the keys of its requests until they are fetched; an empty one
says that the batch is done with. Its key is that of the set of its requests, and stands in the metadata of the batch:
one that was created just before a kill is found by it in the server's list.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cohobate.core import progress
from cohobate.core.atomic_files import sync_folder
from cohobate.core.errors import DamagedFileError
from cohobate.core.fingerprint import hash_value
from cohobate.core.sealed_files import move_aside, regular_files
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json


class BatchRecord(BaseModel):
    """A batch that was or is to be created.

    place: who is asked under which limit. requests: keys of those that were not fetched. round: how often they were
    submitted. file: id of the uploaded file. batch: id of the batch; None: it is not known whether it was created.
    submitted_at: seconds since the epoch. size: requests that were submitted; 0: an earlier version did not note it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: str
    place: str
    requests: list[str]
    round: int
    file: str | None
    batch: str | None
    submitted_at: float
    size: int = 0


class BatchRecords:
    """The records in `folder` of what is asked at `url`. limit: what else identifies a response beside its request."""

    def __init__(self, folder: Path, url: str, limit: Mapping[str, Any]) -> None:
        self.folder, self.limit = folder, dict(limit)
        self.place = hash_value({"url": url, **self.limit})

    def pending(self) -> list[BatchRecord]:
        """Those whose requests were not all fetched, the newest first; one that was damaged is reported."""
        records = [record for path in regular_files(self.folder, "*.json") if (record := self._read(path)) is not None]
        waiting = [record for record in records if record.place == self.place and record.requests]
        return sorted(waiting, key=lambda record: record.submitted_at, reverse=True)

    def new(self, requests: Sequence[str], round: int) -> BatchRecord:
        """A record for these requests, not saved; its key is of none that is done with.

        One that waits at another address has the key too: the server may be the same, and then lists that batch.
        """
        number = 0
        while self._is_taken(self.folder / f"{(key := self._key(requests, number))}.json"):
            number += 1
        return BatchRecord(
            key=key,
            place=self.place,
            requests=[*requests],
            round=round,
            file=None,
            batch=None,
            submitted_at=time.time(),
            size=len(requests),
        )

    def _is_taken(self, path: Path) -> bool:
        record = self._read(path)
        return record is not None and (not record.requests or record.place == self.place)

    def save(self, record: BatchRecord) -> None:
        """Write the record; when this returns, no kill can take it away."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sealed_json(self.path(record), record.model_dump(mode="json"))
        sync_folder(self.folder)

    def settle(self, record: BatchRecord, fetched: Collection[str]) -> None:
        """Note that these requests have their outcomes, and that the responses among them are stored."""
        with self._locked():  # another run may have noted others of the same batch
            newest = self._read(self.path(record)) or record
            rest = [key for key in newest.requests if key not in fetched]
            self.save(newest.model_copy(update={"requests": rest}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def drop(self, record: BatchRecord) -> None:
        """Forget a record whose batch was not created."""
        self.path(record).unlink(missing_ok=True)
        sync_folder(self.folder)

    def path(self, record: BatchRecord) -> Path:
        return self.folder / f"{record.key}.json"

    def _key(self, requests: Sequence[str], number: int) -> str:
        """Without the address: a server that is reached by another one lists the same batches."""
        return hash_value({"limit": self.limit, "requests": sorted(requests), "number": number})

    def _read(self, path: Path) -> BatchRecord | None:
        try:
            record = BatchRecord.model_validate(read_sealed_json(path))
        except FileNotFoundError:  # another process has just dropped it
            return None
        except (DamagedFileError, ValidationError):
            if path.is_file():
                progress.say(f"{path} was altered; it is moved aside to {move_aside(path).name}")
            return None
        return record if record.key == path.stem else None
