"""Ask a teacher for what the response store does not hold; each response is stored as it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cohobate.config import Judge, Recipe, Triples
from cohobate.config import Teacher as Settings
from cohobate.core import progress
from cohobate.core.answer_parsing import parse
from cohobate.core.errors import TeacherError
from cohobate.teachers.base import Failure, Request, Response, Teacher
from cohobate.teachers.response_store import ResponseStore, Writer

if TYPE_CHECKING:
    import polars as pl

# So many responses without any rationale are no accident.
_WITHOUT_RATIONALE = 20


def ask(recipe: Recipe, missing: Sequence[Request], store: ResponseStore, paid_by: str, allowed: int) -> list[Failure]:
    """Store a response to each of `missing`, but for the failures that are returned.

    Raises TeacherError when more than `allowed` fail, or when the first responses show that none will be of use; what
    has arrived is stored all the same.
    """
    if not missing:
        return []
    teacher = _teacher(recipe)
    work = _Work(recipe, len(missing), allowed)
    limit, version = recipe.triples.max_tokens, teacher.engine_version
    with (
        progress.bar("triples", len(missing), "responses") as bar,
        store.writer(paid_by=paid_by, max_tokens=limit, engine_version=version) as writer,
    ):
        try:
            for batch in teacher.answer(missing):
                work.keep(batch, writer)
                bar.advance(len(batch), work.note())
                work.check()
        finally:
            work.keep(teacher.stop(), writer)
    return work.failures


def _teacher(recipe: Recipe) -> Teacher:
    if recipe.teacher.kind == "vllm":
        from cohobate.models.torch_setup import threads
        from cohobate.teachers.vllm.teacher import VllmTeacher

        return VllmTeacher(recipe.teacher, recipe.triples.batch_size, threads(recipe))
    if recipe.teacher.kind == "local":
        from cohobate.models.torch_setup import prepare_torch

        prepare_torch(recipe)
    return open_teacher(recipe.teacher, recipe.triples, recipe.runtime.device)


def open_teacher(settings: Settings, limits: Triples | Judge, device: str = "auto") -> Teacher:
    """The way to the model of `settings`. Raises EndpointError without its key, ModelError without its folder."""
    if settings.kind == "endpoint":
        from cohobate.teachers.endpoint.client import EndpointTeacher

        return EndpointTeacher(settings, limits)
    from cohobate.models.loading import load
    from cohobate.teachers.local import LocalTeacher

    return LocalTeacher(load(settings.model, device=device), limits.batch_size)


class _Work:
    """What has come so far."""

    def __init__(self, recipe: Recipe, total: int, allowed: int) -> None:
        self.recipe, self.total, self.allowed = recipe, total, allowed
        self.failures: list[Failure] = []
        self.first: list[Response] = []
        self.responses = self.prompt_tokens = self.completion_tokens = 0

    def keep(self, batch: Sequence[Response | Failure], writer: Writer) -> None:
        """Store the responses of `batch`, note its failures."""
        responses = [item for item in batch if isinstance(item, Response)]
        if responses:
            writer.append(responses)
        self.failures += [item for item in batch if isinstance(item, Failure)]
        self.first += responses[: max(0, _WITHOUT_RATIONALE - len(self.first))]
        self.responses += len(responses)
        self.prompt_tokens += sum(response.prompt_tokens for response in responses)
        self.completion_tokens += sum(response.completion_tokens for response in responses)

    def note(self) -> str:
        """Tokens, cost and failures, for the person who watches."""
        parts = [f"{self.completion_tokens / max(1, self.responses):.0f} tokens a response"]
        cost = self.recipe.teacher.cost_usd(self.prompt_tokens, self.completion_tokens)
        parts += [f"{cost:.2f} USD"] if cost is not None else []
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        return ", ".join(parts)

    def check(self) -> None:
        """Raise TeacherError when it is no use to go on."""
        if len(self.first) == _WITHOUT_RATIONALE:
            self._refuse_without_rationale()
        if len(self.failures) > self.allowed:
            name, count = Counter(failure.error_class for failure in self.failures).most_common(1)[0]
            last = next(failure for failure in reversed(self.failures) if failure.error_class == name)
            raise TeacherError(
                f"{len(self.failures)} of {self.total} requests have failed ({count} times {name}, such as: "
                f"{last.message}), more than triples.max_failures = {self.recipe.triples.max_failures:g} allows; what "
                "came is stored, so running again asks only for the rest"
            )

    def _refuse_without_rationale(self) -> None:
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

    chosen = sorted(failures, key=lambda f: (f.request.question_id, f.request.sample_index))
    asked = [(f.request.key, f.request.question_id, f.request.sample_index) for f in chosen]
    ended = [(f.error_class, f.status, f.message, f.attempts, f.last_at) for f in chosen]
    rows = [(*a, *b) for a, b in zip(asked, ended, strict=True)]
    return pl.DataFrame(rows, schema=schema.FAILURES.polars, orient="row")
