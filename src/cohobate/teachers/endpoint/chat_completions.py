"""The chat wire of OpenAI: a request as a JSON body, and a reply as a `Response`.

Servers put the reasoning in `reasoning_content` (DeepSeek, older vLLM), `reasoning` (vLLM, OpenRouter), in parts of
the content (Mistral), or inline in <think> tags, which `core.answer_parsing` takes apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cohobate.config import Teacher
from cohobate.teachers.base import Failure, Request, Response

_REASONING = ("reasoning_content", "reasoning")


class ReplyError(Exception):
    """A reply with status 200 that is unusable. `retry`: another attempt may help. `hopeless`: no request will do."""

    def __init__(self, error_class: str, message: str, *, retry: bool = True, hopeless: bool = False) -> None:
        super().__init__(message)
        self.error_class, self.retry, self.hopeless = error_class, retry and not hopeless, hopeless


@dataclass(frozen=True)
class Timing:
    """The number of attempts that a request took, and the milliseconds of the last one."""

    attempts: int
    milliseconds: float


@dataclass(frozen=True)
class FailureCause:
    """The reason why a request is not tried again; `status` is that of HTTP, where a server replied."""

    error_class: str
    status: int | None
    message: str
    attempts: int


Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Wire(Protocol[Q_contra, A_co]):
    """The JSON form of one kind of request, and of the replies to it."""

    @property
    def path(self) -> str:
        """The route behind the base_url."""
        ...

    def body(self, request: Q_contra) -> dict[str, Any]:
        """The JSON body of `request`."""
        ...

    def outcome(self, request: Q_contra, payload: Any, timing: Timing) -> A_co:
        """The outcome in a parsed response body. Raises ReplyError for an unusable one."""
        ...

    def failure(self, request: Q_contra, cause: FailureCause) -> A_co:
        """The outcome of a request without a usable reply."""
        ...


class ChatWire:
    """Chat completions: requests to a teacher, and its responses."""

    path = "/chat/completions"

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def body(self, request: Request) -> dict[str, Any]:
        neutral = {"top_p": 1.0, "top_k": 0}  # not every server knows them
        sampling = {
            "temperature": request.temperature,
            self.teacher.limit_name: request.max_tokens,
            "seed": request.noise_seed,
        }
        truncation = {"top_p": request.top_p, "top_k": request.top_k}
        # Behind the further parameters, which may hold a neutral value but must not replace another.
        sent = {name: value for name, value in truncation.items() if neutral[name] != value}
        return {"model": self.teacher.model, "messages": request.messages, **sampling, **request.extra, **sent}

    def outcome(self, request: Request, payload: Any, timing: Timing) -> Response | Failure:
        try:
            choice = payload["choices"][0]
            message = choice["message"]
            text, thought = _content(message.get("content"))
            usage = payload.get("usage") or {}
            response = Response(
                key=request.key,
                text=text,
                reasoning=_reasoning(message) or thought,
                finish_reason=str(choice.get("finish_reason") or "stop"),
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
                latency_ms=timing.milliseconds,
                attempts=timing.attempts,
                reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
                served_model=payload.get("model"),
            )
        except (LookupError, TypeError, AttributeError, ValueError):
            raise ReplyError("MalformedReply", f"no chat completion: {str(payload)[:200]}") from None
        refuse_other_model(response.served_model, self.teacher)
        if not response.text.strip() and not response.reasoning and response.finish_reason != "length":
            raise _empty(message, response.finish_reason)
        return response

    def failure(self, request: Request, cause: FailureCause) -> Response | Failure:
        return Failure(request, cause.error_class, cause.status, cause.message, cause.attempts)


def _empty(message: dict[str, Any], finish_reason: str) -> ReplyError:
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
    """Raise ReplyError where another model replies: a balancer that mixes models would spoil the dataset unseen.

    Dated and shortened names are the same model.
    """
    if not isinstance(served, str) or not served:
        return
    expected, name = (teacher.served_as or teacher.model).lower(), served.lower()
    if not (name.startswith(expected) or expected.endswith("/" + name) or name.endswith("/" + expected)):
        raise ReplyError("WrongModel", f"asked for '{teacher.model}', but '{served}' answered")
