"""Generate the responses that the response store lacks; each is stored as it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from cohobate.config import Recipe
from cohobate.core import interrupts, progress
from cohobate.core.answer_forms import WHOLE
from cohobate.core.answer_parsing import parse
from cohobate.core.atomic_files import storage_errors
from cohobate.core.errors import BatchFailuresError, TeacherError
from cohobate.teachers.base import Batch, Failure, Request, Response, TeacherBackend
from cohobate.teachers.claims import Claims
from cohobate.teachers.kinds import open_generator
from cohobate.teachers.response_store import ResponseStore

if TYPE_CHECKING:
    import polars as pl

# As many first responses without any rationale are no accident.
_WITHOUT_RATIONALE = 20
_CLAIMED = 64  # requests that are claimed together, when the first of them is sent
_AWAITED = 1 << 14  # requests of others whose end is awaited together


def generate(
    recipe: Recipe,
    requests: Sequence[Request],
    store: ResponseStore,
    claims: Claims,
    paid_by: str,
    allowed: int,
    arrived: Callable[[Batch], None] = lambda batch: None,
) -> list[Failure]:
    """Store the teacher's response to each of `requests`; returns the failures.

    What another run is at is waited for instead. claims: opened before the look-up that found `requests` missing.
    arrived: called with each batch once it is stored.

    Raises TeacherError when more than `allowed` fail, or when the first responses show that none will be of use, and
    AwaitingError where batches are not done in time; what has arrived is stored all the same.
    """
    if not requests:
        return []
    backend = open_generator(recipe.teacher, recipe.triples, recipe.runtime, _batches_of(store))
    tally = _Tally(recipe, len(requests), allowed)
    with progress.bar("triples", len(requests), "responses") as bar:

        def watch(batch: Batch) -> None:
            tally.add(batch)
            bar.advance(len(batch), tally.note())
            tally.check()
            arrived(batch)

        store_responses(
            *(backend, requests, store, claims, watch, lambda keys: bar.advance(len(keys))),
            paid_by=paid_by,
            max_tokens=recipe.triples.max_tokens,
        )
    return tally.failures


def submit(recipe: Recipe, requests: Sequence[Request], store: ResponseStore, claims: Claims) -> None:
    """Submit the batches of a teacher that answers in them, and wait for none: then those of several run together.

    Raises EndpointError, and TeacherError where the server does not take them now.
    """
    from cohobate.teachers.endpoint.batch import BatchTeacher

    own = claims.take([request.key for request in requests])
    backend = BatchTeacher(recipe.teacher, recipe.triples, _batches_of(store))
    try:
        with storage_errors(store.folder.parent):
            backend.submit(request for request, free in zip(requests, own, strict=True) if free)
    finally:
        backend.stop()


def _batches_of(store: ResponseStore) -> Path:
    return store.folder / "batches"


def store_responses(
    backend: TeacherBackend,
    requests: Sequence[Request],
    store: ResponseStore,
    claims: Claims,
    watch: Callable[[Batch], None],
    elsewhere: Callable[[Sequence[str]], None],
    *,
    paid_by: str,
    max_tokens: int,
) -> None:
    """Send `requests`; the responses of each batch are stored before `watch` is called with it.

    Those that another run has claimed are waited for at the end, and sent only if it has stored no response;
    `elsewhere` is called with the keys of those that it has stored. However this ends, by an error of `watch` too, the
    backend is stopped and what it had received is stored.
    """
    with store.writer(paid_by=paid_by, max_tokens=max_tokens, engine_version=backend.engine_version) as writer:

        def send(some: Iterable[Request]) -> None:
            first = next(turn := iter(some), None)
            if first is None:  # nothing to start an engine for
                return
            for batch in backend.answer(chain([first], turn)):
                writer.append([item for item in batch if isinstance(item, Response)])
                claims.release([_key(item) for item in batch])
                watch(batch)
                interrupts.check()

        try:
            turns = _Turns(requests, claims)
            send(turns.unclaimed())
            while turns.postponed:
                missing, keys = turns.await_others(store, max_tokens)
                elsewhere(keys)
                send(missing)
        finally:
            writer.append([item for item in backend.stop() if isinstance(item, Response)])


class _Turns:
    """Which of `requests` this run sends, and when; postponed: the indices of those that another run has claimed."""

    def __init__(self, requests: Sequence[Request], claims: Claims) -> None:
        self.requests, self.claims = requests, claims
        self.postponed: list[int] = []

    def unclaimed(self) -> Iterator[Request]:
        """The requests that no other run has claimed, some claimed ahead of their turn."""
        for start in range(0, len(self.requests), _CLAIMED):
            some = [*self.requests[start : start + _CLAIMED]]
            own = self.claims.take([request.key for request in some])
            for place, (request, free) in enumerate(zip(some, own, strict=True), start):
                if free:
                    yield request
                else:
                    self.postponed.append(place)

    def await_others(self, store: ResponseStore, max_tokens: int) -> tuple[list[Request], list[str]]:
        """Wait until others are done with a piece of what is postponed.

        Returns the requests of it that they have stored no response to, and the keys of those that they have.
        """
        piece, self.postponed = self.postponed[:_AWAITED], self.postponed[_AWAITED:]
        requests = [self.requests[place] for place in piece]
        keys = [request.key for request in requests]
        self.claims.wait(keys)
        own = self.claims.take(keys, again=True)  # before the look-up: nobody stores a response in between
        missing = set(store.locate(keys, max_tokens).missing)
        self.claims.release([key for place, key in enumerate(keys) if own[place] and place not in missing])
        self.postponed += [piece[place] for place in sorted(missing) if not own[place]]
        return (
            [requests[place] for place in sorted(missing) if own[place]],
            [key for place, key in enumerate(keys) if place not in missing],
        )


def _key(outcome: Response | Failure) -> str:
    return outcome.key if isinstance(outcome, Response) else outcome.request.key


class _Tally:
    """Counts of the outcomes so far."""

    def __init__(self, recipe: Recipe, total: int, allowed: int) -> None:
        self.recipe, self.total, self.allowed = recipe, total, allowed
        self.failures: list[Failure] = []
        self.first: list[Response] = []
        self.responses = self.prompt_tokens = self.completion_tokens = 0

    def add(self, batch: Batch) -> None:
        responses = [item for item in batch if isinstance(item, Response)]
        self.failures += [item for item in batch if isinstance(item, Failure)]
        self.first += responses[: max(0, _WITHOUT_RATIONALE - len(self.first))]
        self.responses += len(responses)
        self.prompt_tokens += sum(response.prompt_tokens for response in responses)
        self.completion_tokens += sum(response.completion_tokens for response in responses)

    def note(self) -> str:
        """Tokens, cost and failures, beside the progress bar."""
        parts = [f"{self.completion_tokens / max(1, self.responses):.0f} tokens per response"]
        cost = self.recipe.teacher.cost_usd(self.prompt_tokens, self.completion_tokens)
        parts += [f"{cost:.2f} USD"] if cost is not None else []
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        return ", ".join(parts)

    def check(self) -> None:
        """Raise TeacherError when it is no use to go on."""
        if len(self.first) == _WITHOUT_RATIONALE:
            self._require_rationale()
        if len(self.failures) > self.allowed:
            name, count = Counter(failure.error_class for failure in self.failures).most_common(1)[0]
            last = next(failure for failure in reversed(self.failures) if failure.error_class == name)
            kind = BatchFailuresError if self.recipe.teacher.batch else TeacherError
            raise kind(
                f"{len(self.failures)} of {self.total} requests have failed ({count} times {name}, such as: "
                f"{last.message}), more than triples.max_failures = {self.recipe.triples.max_failures:g} allows; what "
                "came is stored, so running again asks only for the rest"
            )

    def _require_rationale(self) -> None:
        form = self.recipe.teacher.answer
        if form == WHOLE:  # free answers, whose whole text is the answer
            return
        if any(parse(response.text, response.reasoning, form=form).rationale for response in self.first):
            return
        raise TeacherError(
            f"the teacher's first {len(self.first)} responses hold no rationale (the first is "
            f"{self.first[0].text[:80]!r}); ask for one in teacher.prompt, or raise triples.max_tokens"
        )


def failure_rows(failures: Sequence[Failure]) -> pl.DataFrame:
    """The rows of failures.parquet, in the order of question and sample."""
    import polars as pl

    from cohobate.core import schema

    ordered = sorted(failures, key=lambda f: (f.request.question_id, f.request.sample_index))
    rows = [
        (
            *(failure.request.key, failure.request.question_id, failure.request.sample_index),
            *(failure.error_class, failure.status, failure.message, failure.attempts, failure.last_at),
        )
        for failure in ordered
    ]
    return pl.DataFrame(rows, schema=schema.FAILURES.polars, orient="row")
