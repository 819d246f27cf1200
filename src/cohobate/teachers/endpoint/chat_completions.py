"""The OpenAI chat wire: a request as a JSON body, and what servers make of the answer.

Servers put the reasoning in `reasoning_content` (DeepSeek, older vLLM), `reasoning` (vLLM, OpenRouter), in parts of
the content (Mistral), or inline in <think> tags, which `answers.parse` takes apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cohobate.config import Teacher
from cohobate.teachers.base import Failure, Request, Response

_REASONING = ("reasoning_content", "reasoning")


class ReplyError(Exception):
    """An answer with status 200 that is none. `retry`: asking again may help. `hopeless`: no other request will do."""

    def __init__(self, error_class: str, message: str, *, retry: bool = True, hopeless: bool = False) -> None:
        super().__init__(message)
        self.error_class, self.retry, self.hopeless = error_class, retry and not hopeless, hopeless


@dataclass(frozen=True)
class Ended:
    """How a request ended: after so many `attempts`, the last of which took `milliseconds`."""

    attempts: int
    milliseconds: float


@dataclass(frozen=True)
class GivenUp:
    """Why a request that failed is not tried again; `status` is that of HTTP, if it came to that."""

    error_class: str
    status: int | None
    message: str
    attempts: int


Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Wire(Protocol[Q_contra, A_co]):
    """What requests look like to an endpoint, and what becomes of them."""

    @property
    def path(self) -> str:
        """Behind the base_url."""
        ...

    def body(self, request: Q_contra) -> dict[str, Any]:
        """The JSON of `request`."""
        ...

    def answered(self, request: Q_contra, payload: Any, ended: Ended) -> A_co:
        """From a parsed response body. Raises ReplyError when it is none."""
        ...

    def failed(self, request: Q_contra, why: GivenUp) -> A_co:
        """What stands for a request without an answer."""
        ...


class Chat:
    """Chat completions, as responses of a teacher."""

    path = "/chat/completions"

    def __init__(self, settings: Teacher) -> None:
        self.settings = settings

    def body(self, request: Request) -> dict[str, Any]:
        return body(request, self.settings)

    def answered(self, request: Request, payload: Any, ended: Ended) -> Response | Failure:
        reply = read(payload, self.settings)
        return Response(
            key=request.key,
            text=reply.text,
            reasoning=reply.reasoning,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            latency_ms=ended.milliseconds,
            attempts=ended.attempts,
            reasoning_tokens=reply.reasoning_tokens,
            served_model=reply.model,
        )

    def failed(self, request: Request, why: GivenUp) -> Response | Failure:
        return Failure(request, why.error_class, why.status, why.message, why.attempts)


@dataclass(frozen=True)
class Reply:
    """The parts of a chat completion that are kept."""

    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None
    model: str | None


def body(request: Request, teacher: Teacher) -> dict[str, Any]:
    """The JSON of the request."""
    neutral = {"top_p": 1.0, "top_k": 0}  # not every server knows them
    sampling = {
        "temperature": request.temperature,
        teacher.limit_name: request.max_tokens,
        "seed": request.noise_seed,
    }
    asked = {"top_p": request.top_p, "top_k": request.top_k}
    # Behind the further parameters, which may hold a neutral value but must not replace another.
    cuts = {name: value for name, value in asked.items() if neutral[name] != value}
    return {"model": teacher.model, "messages": request.messages, **sampling, **request.extra, **cuts}


def read(payload: Any, teacher: Teacher) -> Reply:
    """The reply in a parsed response body. Raises ReplyError."""
    try:
        choice = payload["choices"][0]
        message = choice["message"]
        text, thought = _content(message.get("content"))
        usage = payload.get("usage") or {}
        reply = Reply(
            text=text,
            reasoning=_reasoning(message) or thought,
            finish_reason=str(choice.get("finish_reason") or "stop"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
            model=payload.get("model"),
        )
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ReplyError("MalformedReply", f"no chat completion: {str(payload)[:200]}") from None
    refuse_other_model(reply.model, teacher)
    if not reply.text.strip() and not reply.reasoning and reply.finish_reason != "length":
        raise _nothing(message, reply.finish_reason)
    return reply


def _nothing(message: dict[str, Any], finish_reason: str) -> ReplyError:
    refusal = message.get("refusal")
    if refusal or finish_reason == "content_filter":
        return ReplyError("Refused", str(refusal or "stopped by the content filter"), retry=False)
    return ReplyError("EmptyContent", f"the response is empty (finish_reason {finish_reason})")


def _reasoning(message: dict[str, Any]) -> str | None:
    for name in _REASONING:
        value = message.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _content(content: Any) -> tuple[str, str | None]:
    """Text and reasoning of a content that is a string, nothing, or a list of typed parts."""
    if content is None or isinstance(content, str):
        return content or "", None
    texts = [_part(part, "text") for part in content if part["type"] == "text"]
    thoughts = [_part(part, "thinking") for part in content if part["type"] == "thinking"]
    return "".join(texts), "".join(thoughts) or None


def _part(part: dict[str, Any], name: str) -> str:
    value = part[name]
    return value if isinstance(value, str) else "".join(item["text"] for item in value)


def refuse_other_model(served: Any, teacher: Teacher) -> None:
    """Raise ReplyError where another model answers: a balancer that mixes models would spoil the dataset unseen.

    Dated and shortened names are the same model.
    """
    if not isinstance(served, str) or not served:
        return
    asked, got = (teacher.served_as or teacher.model).lower(), served.lower()
    if not (got.startswith(asked) or asked.endswith("/" + got) or got.endswith("/" + asked)):
        raise ReplyError("WrongModel", f"asked for '{teacher.model}', but '{served}' answered")
