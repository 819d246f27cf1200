"""Requests to a teacher, its responses and failures, and the interface of its backends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from cohobate.config import Recipe, Teacher, Templated, Training
from cohobate.core.fingerprint import hash_value
from cohobate.models.loading import logits_revision, model_fingerprint, model_path
from cohobate.models.template_revision import template_revision

# The beginning of the engine's version in a response that came of a batch, at the price of batches.
BATCHED = "batch"
# Words of a finish reason, in lower case, for a response that ended by itself; after any other it was cut.
NATURAL_ENDS = frozenset(
    {
        *("stop", "eos", "eos_token", "endoftext", "end_turn", "stop_sequence", "stop_token", "stop_word"),
        *("end", "complete", "completed", "done", "finish", "finished"),
    }
)
# The limit of the response was reached, in the words of several interfaces.
AT_THE_LIMIT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "token_limit"}
)
# The server gave up: another attempt may end well, and what came is no response.
INTERRUPTIONS = frozenset(
    {
        *("error", "abort", "aborted", "cancel", "cancelled", "canceled", "failed", "incomplete", "in_progress"),
        *("insufficient_system_resource", "overloaded", "timeout", "time_limit", "network_error", "server_error"),
        *("internal_error", "exception", "unknown"),
    }
)


@dataclass(frozen=True)
class Request:
    """One sample of one conversation, sent to the model with the fingerprint `model`.

    `key` identifies the request in the response store. max_tokens is no part of it: a response that ended by itself
    under one limit is valid under a larger one. omit: parameters that an endpoint is not sent. rendering: of
    `request_rendering`.
    """

    question_id: str
    messages: list[dict[str, str]]
    model: str
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int
    sample_index: int
    extra: dict[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    rendering: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        identity: dict[str, Any] = {
            "messages": self.messages,
            "model": self.model,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "top_k": self.top_k,
            "seed": self.seed,
            "sample_index": self.sample_index,
        }
        further = {"extra": self.extra, "omit": sorted(self.omit), "rendering": self.rendering}
        return hash_value({**identity, **{name: value for name, value in further.items() if value}})

    @property
    def noise_seed(self) -> int:
        """The seed for engines that take one: each sample has its own, since equal seeds give equal responses."""
        return int(self.key[:8], 16) % 2**31


@dataclass(frozen=True)
class Response:
    """The response to the request `key`, from the wire to the response store.

    reasoning: of a server that sends it in a field of its own. finish_reason: stop, length, or the server's word for
    what cut it. Token counts are measured, 0 where an endpoint sends none. latency_ms: of the last of `attempts`.
    served_model: the model's name in an endpoint's reply.
    """

    key: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    attempts: int = 1
    reasoning_tokens: int | None = None
    served_model: str | None = None


@dataclass(frozen=True)
class Failure:
    """A request without a response, and the reason; `status` is that of HTTP, where a server replied."""

    request: Request
    error_class: str
    status: int | None
    message: str
    attempts: int
    last_at: datetime = field(default_factory=lambda: datetime.now(UTC))


Batch = Sequence[Response | Failure]


class Limits(Protocol):
    """How many requests are sent at a time, and how long and how often each is tried.

    batch_size: of a model on this machine. concurrency, timeout in seconds, attempts: of an endpoint. max_wait: seconds
    that a request waits at most because the endpoint asks it to.
    """

    @property
    def batch_size(self) -> int: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def attempts(self) -> int: ...
    @property
    def max_wait(self) -> float: ...


class TeacherBackend(Protocol):
    """A source of responses: a model in this process, an engine beside it, an endpoint."""

    engine_version: str

    def answer(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """Yields batches as they finish; ends when each request has its response or failure.

        A request is taken from `requests`, in any thread, when its turn has come.

        Raises TeacherError when it is no use to go on.
        """
        ...

    def stop(self) -> Batch:
        """Give up what is under way; returns the outcomes that had arrived, the last batch included."""
        ...


def teacher_fingerprint(teacher: Teacher) -> str:
    """The identity of the model: the content of its folder; of an endpoint, its provider, name and revision."""
    if teacher.is_folder:
        return model_fingerprint(teacher.model)
    return endpoint_fingerprint(teacher.provider, teacher.model, teacher.revision)


def endpoint_fingerprint(provider: str | None, model: str, revision: str | None) -> str:
    """The identity of an endpoint's model, as far as its provider, name and revision are known."""
    return f"{provider or 'endpoint'}/{model}@{revision or 'unknown'}"


def response_revision(teacher: Teacher) -> dict[str, Any]:
    """The part of an identity that says how a teacher on this machine is asked and read; see `template_revision`."""
    return template_revision(model_path(teacher.model), teacher) if teacher.is_folder else {}


def request_rendering(teacher: Teacher) -> dict[str, Any]:
    """What identifies a request beside its messages: the settings of the teacher's template, where there are any."""
    settings = Templated.identity(teacher)
    names = ("template", "template_args", "template_date")
    return {**{name: settings[name] for name in names if name in settings}, **response_revision(teacher)}


def training_identity(teacher: Teacher) -> dict[str, Any]:
    """The part of a training stage's identity that says which teacher scores, and what it is shown.

    A teacher that is the student itself is identified by the student, and by how it follows.
    """
    own = scoring_identity(teacher) if teacher.follow is None else {"follow": teacher.follow}
    return own if teacher.privileged is None else {**own, "privileged": teacher.privileged.identity()}


def scoring_identity(teacher: Teacher) -> dict[str, Any]:
    """The part of an identity that says which model scores under the teacher's own prompt, and how."""
    here = teacher.is_folder and not teacher.scores_by_server
    revision = logits_revision(teacher.model) if here else {}
    return {**teacher.identity(), "model": teacher_fingerprint(teacher), **revision, **response_revision(teacher)}


def half_scoring(recipe: Recipe, stage: Training) -> dict[str, str]:
    """The part of a training stage's identity that says that the teacher's products are the student's bfloat16.

    They were float32 on a CPU before.
    """
    here = recipe.teacher.is_folder and not recipe.teacher.scores_by_server
    return {"scoring": "bfloat16"} if here and stage.precision == "bfloat16" else {}
