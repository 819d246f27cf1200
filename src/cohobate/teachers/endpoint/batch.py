"""A teacher that answers in batches, at OpenAI's /files and /batches: the backend of `teacher.batch = true`.

A batch takes up to 24 hours. All requests are taken at once (some KB of memory each) and submitted; then the batches
are waited for, and what came of them is stored as direct responses are.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO

import aiohttp

from cohobate.config import Teacher
from cohobate.core.errors import AwaitingError, CohobateError, EndpointError, TeacherError
from cohobate.core.progress import say
from cohobate.teachers.base import BATCHED, Batch, Failure, Limits, Request, Response
from cohobate.teachers.endpoint.batch_lines import Outcomes, most_bytes
from cohobate.teachers.endpoint.batch_records import BatchRecord, BatchRecords
from cohobate.teachers.endpoint.batch_routes import GONE, BatchRoutes, RouteError, pause
from cohobate.teachers.endpoint.batch_submission import SETTLE_SECONDS, Submission, Submissions
from cohobate.teachers.endpoint.chat_completions import ChatWire
from cohobate.teachers.endpoint.fault import Fault
from cohobate.teachers.endpoint.refused_parameter import setting_of
from cohobate.teachers.endpoint.remote_batch import RemoteBatch
from cohobate.teachers.endpoint.wire import FailureCause, ReplyError

_ROUNDS = 3  # submissions of a request
_TOGETHER = 256  # responses that are stored together
_FIRST_POLL, _POLL_SHARE, _LONGEST_POLL = 0.2, 0.1, 60.0  # seconds; of the time waited so far; seconds
_QUIET_SECONDS = 300.0  # between two lines about a batch whose status is the same
_MOST_REQUESTS = 50_000  # of a batch, by the documentation
_FULL = "token_limit_exceeded"  # as many tokens of the account are under way as may be


@dataclass
class _Work:
    """What is left: batches that are waited for, and requests to submit, each time with the number of that time.

    full: those that the server has no room for before another batch has ended. failed: what came of batches beside
    their responses, told at the end: a run that ends as awaiting must leave it to the next one.
    """

    under_way: list[Submission] = field(default_factory=list)
    rounds: list[tuple[int, list[Request]]] = field(default_factory=list)
    full: list[tuple[int, list[Request]]] = field(default_factory=list)
    failed: list[tuple[BatchRecord, list[Failure]]] = field(default_factory=list)


class BatchTeacher:
    """The backend of a teacher that answers in batches. folder: of the records of what was submitted.

    Raises EndpointError at once when the key's environment variable is not set.
    """

    engine_version = f"{BATCHED}, aiohttp {aiohttp.__version__}"

    def __init__(self, teacher: Teacher, limits: Limits, folder: Path) -> None:
        self.teacher, self.limits, self.folder = teacher, limits, folder
        self.routes, self.wire = BatchRoutes(teacher, limits), ChatWire(teacher)
        self._told: dict[str, tuple[str, float]] = {}  # the status of each batch that was said last, and when
        self._done: dict[str, int] = {}

    def answer(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """The outcome of each request, in batches.

        Raises AwaitingError when `teacher.batch_wait` is over, EndpointError and TeacherError when to go on is no use.
        """
        wanted = {request.key: request for request in requests}
        if not wanted:
            return
        began = time.monotonic()
        submissions, work = self._begin(wanted)
        while work.under_way or work.rounds:
            self._submit(submissions, work)
            yield from self._sweep(work)
            if work.under_way and not work.rounds:
                self._wait(work.under_way, time.monotonic() - began)
        for record, failures in work.failed:
            self.records.settle(record, {each.request.key for each in failures})
        if failed := [each for _, failures in work.failed for each in failures]:
            yield failed

    def submit(self, requests: Iterable[Request]) -> None:
        """Submit what is not under way, and wait for nothing. Raises EndpointError and TeacherError as `answer`."""
        if wanted := {request.key: request for request in requests}:
            self._submit(*self._begin(wanted))

    def stop(self) -> Batch:
        """Give up the call that is under way; what was submitted goes on at the server."""
        self.routes.close()
        return []

    def _begin(self, wanted: dict[str, Request]) -> tuple[Submissions, _Work]:
        """What earlier runs have submitted of the requests is under way, the rest is to be submitted."""
        limit = {"model": self.teacher.model, self.teacher.limit_name: next(iter(wanted.values())).max_tokens}
        self.records = BatchRecords(self.folder, self.routes.url, limit)
        submissions = Submissions(self.teacher, self.limits, self.routes, self.wire, self.records)
        work = _Work([*submissions.earlier(wanted)])
        taken = {key for each in work.under_way for key in each.requests}
        if rest := [request for key, request in wanted.items() if key not in taken]:
            work.rounds.append((1, rest))
        return submissions, work

    def _submit(self, submissions: Submissions, work: _Work) -> None:
        while work.rounds:
            number, some = work.rounds.pop()
            work.under_way += submissions.submit(some, number)

    def _sweep(self, work: _Work) -> Iterator[Batch]:
        """The outcomes of the batches that have ended by now."""
        made_room, reason = False, ""
        for each in [*work.under_way]:
            remote = self._look(each)
            if remote is None or not remote.has_ended:
                continue
            work.under_way.remove(each)
            if remote.status == "failed" and any(code == _FULL for code, _ in remote.errors):
                reason = self._words(remote)
                self.records.settle(each.record, each.requests.keys())
                work.full.append((each.record.round, [*each.requests.values()]))
            else:
                made_room = True
                yield from self._outcomes(each, remote, work)
        if made_room:
            work.rounds, work.full = [*work.rounds, *work.full], []
        elif work.full and not work.under_way:
            raise TeacherError(
                f"{self.routes.url} has no room for the batch now ({reason}); run again when others have ended, or "
                f"lower {self.teacher.section}.batch_requests = {self.teacher.batch_requests}"
            )

    def _look(self, submission: Submission) -> RemoteBatch | None:
        """The batch as it is now; None where the server does not say, which a wait survives."""
        name = submission.batch
        try:
            remote = self.routes.retrieve(name)
        except RouteError as error:
            is_new = time.time() - submission.record.submitted_at < SETTLE_SECONDS
            if error.fault.status in GONE and not is_new:
                raise self._lost(submission, f"status {error.fault.status}") from None
            if error.fault.status in GONE:  # not every part of a large service knows it at once
                return None
            if not error.fault.retry or error.fault.spent:
                raise self.routes.error_of(error.fault, f"the state of batch {name}") from None
            self._tell(name, "its server does not answer", f" ({error.fault.message}); asked again")
            return None
        self._done[name] = remote.completed + remote.failed
        counts = f", {self._done[name]:,} of {remote.total:,} requests done" if remote.total else ""
        self._tell(name, self.routes.hidden(remote.status), counts)
        return remote

    def _tell(self, batch: str, status: str, further: str) -> None:
        now = time.monotonic()
        before, at = self._told.get(batch, ("", 0.0))
        if status != before or now - at > _QUIET_SECONDS:
            self._told[batch] = status, now
            say(f"batch {batch}: {status}{further}")

    def _wait(self, under_way: list[Submission], waited: float) -> None:
        left = self.teacher.batch_wait * 3600 - waited
        if left <= 0:
            count = sum(len(each.requests) for each in under_way)
            done = sum(self._done.get(each.batch, 0) for each in under_way)
            raise AwaitingError(
                f"{count:,} requests are under way in {len(under_way)} batch{'es' * (len(under_way) > 1)} at "
                f"{self.routes.url}, {done:,} of them done; go on later with `cohobate resume`, Retry, or the next "
                "nightly run, which submit none of them again"
            )
        pause(min(left, _LONGEST_POLL, max(_FIRST_POLL, waited * _POLL_SHARE)))

    def _outcomes(self, submission: Submission, remote: RemoteBatch, work: _Work) -> Iterator[Batch]:
        """The outcomes of a batch that has ended; requests that are to be submitted again are put into `work`.

        Its responses are stored by the time that the record says so, and its failures are told after that: then neither
        a kill nor an error in between makes anything be paid twice.
        """
        record = submission.record
        count = max(remote.total, record.size, len(record.requests), len(submission.requests))
        size = min(count, _MOST_REQUESTS)
        outcomes = Outcomes(submission.requests, self.wire, record.round, self.routes.secret, size)
        if remote.lacks_output:
            raise self._lost(submission, "it names no file with its responses")
        for name in filter(None, (remote.output_file, remote.error_file)):
            with tempfile.TemporaryFile(dir=self.folder) as file:
                self._download(submission, name, file, size)
                responses = outcomes.read(file)
                while some := self._next(responses, submission, name):
                    yield some
        self._tell_oddities(remote.id, outcomes)
        if len(outcomes.names) < remote.completed:
            raise self._lost(
                submission, f"it says that {remote.completed:,} are done, and its files say {len(outcomes.names):,}"
            )
        failures, again = self._sorted(submission, remote, outcomes)
        if (stop := self._verdict(remote, outcomes)) is not None:
            self.records.settle(record, submission.requests.keys())
            raise stop
        failed = {each.request.key for each in failures}
        self.records.settle(record, submission.requests.keys() - failed)
        if failures:
            work.failed.append((record, failures))
        if again:
            work.rounds.append((record.round + 1, again))

    def _next(self, responses: Iterator[Response], submission: Submission, name: str) -> Batch:
        try:
            return [*islice(responses, _TOGETHER)]
        except ReplyError as error:
            raise self._unusable(submission, name, str(error)) from None

    def _download(self, submission: Submission, name: str, file: IO[bytes], size: int) -> None:
        """Fetch a file, which a service may not have at once: that nothing came of a batch is not said lightly."""
        most, until = most_bytes(submission.requests, self.wire, size), time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return self.routes.download(name, file, most)
            except RouteError as error:
                fault = error.fault
            left = until - time.monotonic()
            if fault.status in GONE and left > 0 and self.routes.has_file(name, left):
                continue
            if fault.status in GONE:
                raise self._lost(submission, f"status {fault.status} for its file {name}")
            if fault.error_class == "TooLong":
                raise self._unusable(submission, name, fault.message)
            raise self.routes.error_of(fault, f"file {name} of batch {submission.batch}")

    def _unusable(self, submission: Submission, name: str, reason: str) -> EndpointError:
        return EndpointError(
            f"{self.routes.url} gives a file {name} that is none of batch {submission.batch} ({reason}); have it "
            f"corrected there, or set {self.teacher.section}.batch = false to ask and pay without it"
        )

    def _sorted(
        self, submission: Submission, remote: RemoteBatch, outcomes: Outcomes
    ) -> tuple[list[Failure], list[Request]]:
        """The requests without a response: those that failed, and those that another batch may answer."""
        failures: list[Failure] = []
        again: list[Request] = []
        unsaid = Fault("NoResponse", f"batch {remote.id} is {remote.status} and says nothing about it")
        for key, request in submission.requests.items():
            if key in outcomes.answered:
                continue
            fault = outcomes.faults.get(key, unsaid)
            # What is no use was paid all the same: a direct request is tried again with that risk, a night's is not.
            if fault.retry and key not in outcomes.paid and submission.record.round < _ROUNDS:
                again.append(request)
                continue
            advice = setting_of(fault, self.wire.parameters(request), self.teacher)
            message = fault.message if advice is None else f"{fault.message}; {advice}"
            cause = FailureCause(fault.error_class, fault.status, message, submission.record.round)
            failure = self.wire.failure(request, cause)
            assert isinstance(failure, Failure)
            failures.append(failure)
        return failures, again

    def _verdict(self, remote: RemoteBatch, outcomes: Outcomes) -> CohobateError | None:
        """The error to stop with, if it is no use to go on after this batch."""
        if outcomes.answered:
            self.routes.watch.count_reply()
        for key, fault in outcomes.faults.items():
            advice = setting_of(fault, self.wire.parameters(outcomes.requests[key]), self.teacher)
            if (stop := self.routes.watch.verdict(replace(fault, advice=advice))) is not None:
                return stop
        if remote.status == "failed":
            return EndpointError(
                f"{self.routes.url} refuses batch {remote.id} ({self._words(remote)}); correct what it names in "
                f"[{self.teacher.section}] or [{self.teacher.limits_section}]"
            )
        if remote.status == "cancelled":
            return EndpointError(
                f"batch {remote.id} at {self.routes.url} was cancelled with {len(outcomes.answered):,} of "
                f"{len(outcomes.requests):,} responses, which are kept; run again to submit the rest"
            )
        return None

    def _lost(self, submission: Submission, reason: str) -> EndpointError:
        section = self.teacher.section
        return EndpointError(
            f"{self.routes.url} does not give the responses of batch {submission.batch}, in which "
            f"{len(submission.requests):,} requests were submitted ({reason}); correct {section}.api_key_env if "
            f"another key submitted it, or delete {self.records.path(submission.record)} to submit and pay them again"
        )

    def _tell_oddities(self, batch: str, outcomes: Outcomes) -> None:
        odd = {"damaged": outcomes.damaged, "about nothing that was asked": outcomes.foreign}
        words = [f"{count:,} lines are {what}" for what, count in odd.items() if count]
        if words:
            say(f"batch {batch}: {', '.join(words)}; they are passed over")

    def _words(self, remote: RemoteBatch) -> str:
        """Why a batch was refused, in the server's words."""
        words = "; ".join(dict.fromkeys(message for _, message in remote.errors)) or "without a reason"
        return self.routes.hidden(words)
