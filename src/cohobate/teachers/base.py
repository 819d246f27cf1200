"""What a teacher is asked and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from cohobate.config import Teacher as Settings
from cohobate.core.fingerprint import hash_value
from cohobate.models.loading import model_fingerprint


@dataclass(frozen=True)
class Request:
    """One sample of one conversation. `model` is the teacher's fingerprint; `key` names the request for ever.

    max_tokens is no part of the key: what ended by itself under one limit stands under a larger one.
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
        return hash_value({**identity, "extra": self.extra} if self.extra else identity)

    @property
    def noise_seed(self) -> int:
        """A seed of this sample's own, for engines that take one: they repeat themselves under the same one."""
        return int(self.key[:8], 16) % 2**31


@dataclass(frozen=True)
class Response:
    """What came back for the request `key`. Token counts are measured; 0 where an endpoint sends none."""

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
    """A request that has no response, and why; `status` is that of HTTP, if it came to that."""

    request: Request
    error_class: str
    status: int | None
    message: str
    attempts: int
    last_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Limits(Protocol):
    """How an endpoint may be asked."""

    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def attempts(self) -> int: ...


class Teacher(Protocol):
    """A way to get responses. Batches are yielded as they finish, so that they can be stored at once."""

    engine_version: str

    def answer(self, requests: Sequence[Request]) -> Iterator[Sequence[Response | Failure]]:
        """Ends when each request has its response or failure. Raises TeacherError when asking on is useless."""
        ...

    def stop(self) -> Sequence[Response | Failure]:
        """Ask no more; returns what had arrived and may not have been stored yet."""
        ...


def teacher_fingerprint(teacher: Settings) -> str:
    """What identifies the model: the content of its folder, or provider, name and revision behind an endpoint."""
    if teacher.is_folder:
        return model_fingerprint(teacher.model)
    return f"{teacher.provider or 'endpoint'}/{teacher.model}@{teacher.revision or 'unknown'}"
