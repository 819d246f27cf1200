"""The chat wire of OpenAI: a request as a JSON body, and a reply as a `Response`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cohobate.config import Teacher
from cohobate.teachers.base import Failure, Request, Response
from cohobate.teachers.endpoint.chat_reply import ChatReply, chat_reply
from cohobate.teachers.endpoint.served_model import served_name
from cohobate.teachers.endpoint.wire import FailureCause, ReplyError, Timing

_TEMPLATE_ARGS = "chat_template_kwargs"
_LONGEST_BODY = 8 << 20  # two million tokens of English


class ChatWire:
    """Chat completions: requests to a teacher, and its responses."""

    path = "/chat/completions"

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def body(self, request: Request) -> dict[str, Any]:
        return {"model": self.teacher.model, "messages": request.messages, **self._parameters(request)}

    def parameters(self, request: Request) -> Collection[str]:
        return self._parameters(request).keys()

    def _parameters(self, request: Request) -> dict[str, Any]:
        neutral = {"top_p": 1.0, "top_k": 0}  # not every server knows them
        sampling = {
            "temperature": request.temperature,
            self.teacher.limit_name: request.max_tokens,
            "seed": request.noise_seed,
        }
        truncation = {"top_p": request.top_p, "top_k": request.top_k}
        # Behind the further parameters, which may hold a neutral value but must not replace another.
        sent = {name: value for name, value in truncation.items() if neutral[name] != value}
        own = {name: value for name, value in sampling.items() if name not in request.omit}
        args = self.teacher.template_args
        return {**own, **request.extra, **({_TEMPLATE_ARGS: args} if args else {}), **sent}

    def longest_body(self, request: Request) -> int:
        return _LONGEST_BODY

    def outcome(self, request: Request, payload: Any, timing: Timing) -> Response | Failure:
        reply = chat_reply(payload, request.max_tokens)
        served = served_name(payload, self.teacher)
        _require_content(reply)
        return Response(
            key=request.key,
            text=reply.text,
            reasoning=reply.reasoning,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            latency_ms=timing.milliseconds,
            attempts=timing.attempts,
            reasoning_tokens=reply.reasoning_tokens,
            served_model=served,
        )

    def failure(self, request: Request, cause: FailureCause) -> Response | Failure:
        return Failure(request, cause.error_class, cause.status, cause.message, cause.attempts)


def _require_content(reply: ChatReply) -> None:
    """Raise ReplyError where nothing is said outside of thoughts, unless it was cut there: that was paid."""
    if reply.text.strip() or reply.finish_reason == "length":
        return
    if reply.refusal or reply.finish_reason == "content_filter":
        raise ReplyError("Refused", reply.refusal or "stopped by the content filter", retry=False)
    if reply.calls_tool:
        raise ReplyError("ToolCall", "it calls a tool instead of answering", retry=False)
    if reply.reasoning and reply.finish_reason == "stop":  # asked again with the same seed it would be paid again
        raise ReplyError("OnlyReasoning", "all of it is reasoning, and its content is empty", retry=False)
    if reply.reasoning:
        return
    raise ReplyError("EmptyContent", f"the response is empty (finish_reason {reply.finish_reason})")
