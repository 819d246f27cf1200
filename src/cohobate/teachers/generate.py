"""Generate the responses that the response store lacks; each is stored as it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cohobate.config import Recipe
from cohobate.core import interrupts, progress
from cohobate.core.answer_parsing import parse
from cohobate.core.errors import TeacherError
from cohobate.teachers.base import Batch, Failure, Request, Response, TeacherBackend
from cohobate.teachers.kinds import open_backend
from cohobate.teachers.response_store import ResponseStore

if TYPE_CHECKING:
    import polars as pl

# As many first responses without any rationale are no accident.
_WITHOUT_RATIONALE = 20


def generate(
    recipe: Recipe, requests: Sequence[Request], store: ResponseStore, paid_by: str, allowed: int
) -> list[Failure]:
    """Store the teacher's response to each of `requests`; returns the failures.

    Raises TeacherError when more than `allowed` fail, or when the first responses show that none will be of use; what
    has arrived is stored all the same.
    """
    if not requests:
        return []
    backend = open_backend(recipe.teacher, recipe.triples, recipe.runtime)
    tally = _Tally(recipe, len(requests), allowed)
    with progress.bar("triples", len(requests), "responses") as bar:

        def watch(batch: Batch) -> None:
            tally.add(batch)
            bar.advance(len(batch), tally.note())
            tally.check()

        store_responses(backend, requests, store, watch, paid_by=paid_by, max_tokens=recipe.triples.max_tokens)
    return tally.failures


def store_responses(
    backend: TeacherBackend,
    requests: Sequence[Request],
    store: ResponseStore,
    watch: Callable[[Batch], None],
    *,
    paid_by: str,
    max_tokens: int,
) -> None:
    """Send `requests`; the responses of each batch are stored before `watch` is called with it.

    However this ends, by an error of `watch` too, the backend is stopped and what it had received is stored.
    """
    with store.writer(paid_by=paid_by, max_tokens=max_tokens, engine_version=backend.engine_version) as writer:
        try:
            for batch in backend.answer(requests):
                writer.append([item for item in batch if isinstance(item, Response)])
                watch(batch)
                interrupts.check()
        finally:
            writer.append([item for item in backend.stop() if isinstance(item, Response)])


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
            raise TeacherError(
                f"{len(self.failures)} of {self.total} requests have failed ({count} times {name}, such as: "
                f"{last.message}), more than triples.max_failures = {self.recipe.triples.max_failures:g} allows; what "
                "came is stored, so running again asks only for the rest"
            )

    def _require_rationale(self) -> None:
        if any(parse(response.text, response.reasoning).rationale for response in self.first):
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
