"""What a teacher is asked and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cohobate.fingerprint import hash_value


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

    @property
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
        return hash_value(identity)


@dataclass(frozen=True)
class Response:
    """What came back for the request `key`; token counts are measured."""

    key: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    attempts: int = 1


class Teacher(Protocol):
    """A way to get responses. Batches are yielded as they finish, so that they can be stored at once."""

    provider: str
    engine_version: str

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Response]]: ...
