"""Requests submitted in batches, each once: what earlier runs have submitted is found again.

A record is written before a batch is created (`batch_records`). Where a kill or a lost connection leaves it open
whether it was, the server's list says so: by the file of the requests, or by their key in the batch's metadata.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cohobate.config import Teacher
from cohobate.core.progress import say
from cohobate.teachers.base import Limits, Request
from cohobate.teachers.endpoint.batch_lines import write_requests
from cohobate.teachers.endpoint.batch_records import BatchRecord, BatchRecords
from cohobate.teachers.endpoint.batch_routes import BatchRoutes, RouteError, pause
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.fault import Fault
from cohobate.teachers.endpoint.rate_limit import backoff
from cohobate.teachers.endpoint.remote_batch import RemoteBatch

# From a creation whose reply was lost to the look into the list that decides that there was none.
SETTLE_SECONDS = 10.0
_UNCERTAIN = (408, 409, 499)  # too late, there already, given up by a gateway


@dataclass(frozen=True)
class Submission:
    """A batch at the server, `batch`, and those of its requests that this run waits for, by key."""

    record: BatchRecord
    batch: str
    requests: dict[str, Request]


class Submissions:
    """The batches of one teacher. Raises EndpointError for a server without batches."""

    def __init__(
        self, teacher: Teacher, limits: Limits, routes: BatchRoutes, wire: ChatWire, records: BatchRecords
    ) -> None:
        self.teacher, self.limits, self.routes, self.wire, self.records = teacher, limits, routes, wire, records
        self.emptied: set[str] = set()  # ids of batches whose responses the server no longer gives
        self.listed = self._list()

    def earlier(self, wanted: Mapping[str, Request]) -> Iterator[Submission]:
        """The batches of earlier runs that hold some of the requests, each request in the newest."""
        taken: set[str] = set()
        for record in self.records.pending():
            own = {key: wanted[key] for key in record.requests if key in wanted and key not in taken}
            name = record.batch or (self._find(record) if own else None)
            if not own:
                continue
            if name is None:
                self.records.drop(record)
                continue
            taken |= own.keys()
            yield self._submission(record, name, own, "an earlier run submitted")

    def submit(self, requests: Sequence[Request], round: int) -> Iterator[Submission]:
        """Submit the requests for the `round`-th time, in as many files as they take."""
        rest = requests
        while rest:
            self.records.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.records.folder) as file:
                some = rest[: self.teacher.batch_requests]
                some = some[: write_requests(file, some, self.wire)]
                rest = rest[len(some) :]
                own = {request.key: request for request in some}
                record = self.records.new([*own], round)
                # Of another data folder: the same requests of the same account are not paid twice.
                same = next((each for each in self.listed if each.key == record.key and not self._is_empty(each)), None)
                if same is None:
                    name = f"cohobate-{record.key[:16]}.jsonl"
                    uploaded = self.routes.upload(name, file, file.tell())
                    record, same = self._create(record.model_copy(update={"file": uploaded}), uploaded)
            yield self._submission(record, same.id, own, f"submitted to {self.routes.url}:")

    def _submission(self, record: BatchRecord, batch: str, own: dict[str, Request], words: str) -> Submission:
        if record.batch is None:
            record = record.model_copy(update={"batch": batch})
            self.records.save(record)
        say(f"batch {batch}: {words} {len(own):,} of the requests")
        return Submission(record, batch, own)

    def _create(self, record: BatchRecord, file: str) -> tuple[BatchRecord, RemoteBatch]:
        """Create the batch of an uploaded file, once: after a lost reply the server's list says whether it is there."""
        for attempt in range(1, self.limits.attempts + 1):
            record = record.model_copy(update={"submitted_at": time.time()})
            self.records.save(record)
            try:
                return record, self.routes.create(file, record.key)
            except RouteError as error:
                fault = error.fault
            if not (is_refused := _is_refused(fault)):
                record = record.model_copy(update={"submitted_at": time.time()})  # the server has its time from now on
                self.records.save(record)
                if (name := self._find(record)) is not None:
                    return record, RemoteBatch(name, "validating")
            wait = backoff(attempt) if fault.wait is None else fault.wait
            if not fault.retry or fault.spent or wait > self.limits.max_wait or attempt == self.limits.attempts:
                break
            pause(wait)
        if is_refused:
            self.records.drop(record)
        raise self.routes.error_of(fault, "a batch")

    def _find(self, record: BatchRecord) -> str | None:
        """The id of a record's batch by the server's list; None: it was not created.

        One that was to be created a moment ago is looked for again when the server has had its time.
        """
        left = SETTLE_SECONDS - abs(time.time() - record.submitted_at)
        if (name := self._named(record)) is None and left > 0:
            pause(left)
            name = self._named(record)
        return name

    def _named(self, record: BatchRecord) -> str | None:
        self.listed = self._list()
        for batch in self.listed:
            if batch.key == record.key or (record.file is not None and batch.input_file == record.file):
                return batch.id
        return None

    def _is_empty(self, batch: RemoteBatch) -> bool:
        """Whether the server gives nothing of a batch that has ended: then its requests are submitted anew."""
        file = batch.output_file or batch.error_file
        if batch.has_ended and (batch.lacks_output or (file and not self.routes.has_file(file, SETTLE_SECONDS))):
            self.emptied.add(batch.id)
        return batch.id in self.emptied

    def _list(self) -> list[RemoteBatch]:
        batches = [batch for batch in self.routes.listed() if batch.id not in self.emptied]
        return [batch for batch in batches if batch.is_of_use or batch.lacks_output]


def _is_refused(fault: Fault) -> bool:
    """Whether no batch can have come of a creation that failed. A gateway's status may hide one that goes on."""
    is_clients = fault.status is not None and 400 <= fault.status < 500
    return fault.unreachable or (is_clients and fault.status not in _UNCERTAIN)
