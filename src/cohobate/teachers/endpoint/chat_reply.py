"""The fields of a chat completion, each typed and bounded: text, reasoning, refusal, finish reason, token counts.

Servers put the reasoning in `reasoning_content` (DeepSeek, older vLLM), `reasoning` (vLLM, OpenRouter), `thinking`
(Ollama), `thinking_blocks` (LiteLLM), `reasoning_details` (OpenRouter), in parts of the content (Mistral, Anthropic),
or inline in <think> tags, which `core.answer_parsing` takes apart.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Any

from cohobate.core.sanitize import one_line, storable
from cohobate.teachers.base import AT_THE_LIMIT, INTERRUPTIONS, NATURAL_ENDS
from cohobate.teachers.endpoint.wire import ReplyError

_REASONING = ("reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details")
_TEXTS = {"text", "output_text"}
_THOUGHTS = {
    "thinking",
    "reasoning",
    "thought",
    "reasoning_text",
    "summary_text",
    "reasoning.text",
    "reasoning.summary",
}
_UNREADABLE_THOUGHTS = {"redacted_thinking", "reasoning.encrypted"}
_THOUGHT_FIELDS = ("thinking", "reasoning", "text", "content", "summary")
_DEEPEST = 4  # parts within parts
MOST_TOKENS = 2**24 - 1  # no model reads or writes as many; sums of them stay far from the bounds of an int64
_LONGEST_WORD = 40
_SHORT = reprlib.Repr()  # of a reply of any size
_SHORT.maxstring = _SHORT.maxother = 120


@dataclass(frozen=True)
class ChatReply:
    """The first choice of a chat completion.

    reasoning: of fields and parts of its own. refusal: the model's words. finish_reason: stop, length, or the server's
    word for what cut the response. Token counts are 0, or None, where the server sends none that can be.
    """

    text: str
    reasoning: str | None
    refusal: str | None
    calls_tool: bool
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None


def chat_reply(payload: Any, max_tokens: int) -> ChatReply:
    """The reply to a request for at most `max_tokens`. Raises ReplyError for what is no usable chat completion."""
    choice = _first_choice(payload)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise malformed(payload)
    parts = _Parts()
    parts.add(message.get("content"))
    usage = _object(payload.get("usage"))
    completion_tokens = _count(usage.get("completion_tokens")) or 0
    return ChatReply(
        text=storable("".join(parts.texts)),
        reasoning=storable(_reasoning(message) or "\n\n".join(parts.thoughts)) or None,
        refusal=_refusal(message, parts),
        calls_tool=parts.calls_tool or bool(message.get("tool_calls") or message.get("function_call")),
        finish_reason=_finish_reason(choice.get("finish_reason"), completion_tokens >= max_tokens),
        prompt_tokens=_count(usage.get("prompt_tokens")) or 0,
        completion_tokens=completion_tokens,
        reasoning_tokens=_count(_object(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def malformed(payload: Any) -> ReplyError:
    """The error of a payload that is no completion."""
    return ReplyError("MalformedReply", f"no chat completion: {short(payload)}")


def short(value: Any) -> str:
    """The beginning of a JSON value of any size, in one line."""
    return one_line(_SHORT.repr(value))[:200]


def _first_choice(payload: Any) -> dict[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise malformed(payload)
    return choices[0]


@dataclass
class _Parts:
    """What the parts of a content hold."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls_tool: bool = False

    def add(self, content: Any) -> None:
        """Add a content: a string, nothing, a part, or a list of parts. Raises ReplyError for any other."""
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                self.texts.append(part)
            elif isinstance(part, dict):
                self._add_part(part)
            elif part is not None:
                raise ReplyError("MalformedReply", f"its content is no text: {short(part)}")

    def _add_part(self, part: dict[str, Any]) -> None:
        kind = part.get("type", "text")
        if not isinstance(kind, str):
            raise malformed(part)
        if kind in _THOUGHTS or (kind == "text" and part.get("thought") is True):
            self.thoughts += filter(None, [_thought(part)])
        elif kind in _TEXTS and isinstance(part.get("text"), str):
            self.texts.append(part["text"])
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            self.refusals.append(part["refusal"])
        elif kind in ("tool_use", "tool_call", "function_call"):
            self.calls_tool = True
        elif kind not in _UNREADABLE_THOUGHTS:
            raise ReplyError("UnreadablePart", f"a part of its content is no text but {short(kind)}", retry=False)


def _reasoning(message: dict[str, Any]) -> str | None:
    """The first field that holds thoughts; LiteLLM keeps those of a provider apart."""
    for fields in (message, _object(message.get("provider_specific_fields"))):
        for name in _REASONING:
            if thought := _thought(fields.get(name)):
                return thought
    return None


def _thought(value: Any, depth: int = 0) -> str:
    """The text of a thought in any of its shapes: a string, a part, a list of parts; "" where there is none to read."""
    if isinstance(value, str):
        return value if value.strip() else ""
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return "\n\n".join(filter(None, (_thought(item, depth + 1) for item in value)))
    if isinstance(value, dict) and str(value.get("type")) not in _UNREADABLE_THOUGHTS:
        return next(filter(None, (_thought(value.get(name), depth + 1) for name in _THOUGHT_FIELDS)), "")
    return ""


def _refusal(message: dict[str, Any], parts: _Parts) -> str | None:
    refusal = message.get("refusal")
    texts = [refusal] if isinstance(refusal, str) else parts.refusals
    return one_line(" ".join(texts)) or None


def _finish_reason(value: Any, at_the_limit: bool) -> str:
    """stop, length, or the server's word. Raises ReplyError where the server gave up.

    Some servers name no reason: then the response ended by itself if it is below the limit.
    """
    if isinstance(value, dict):  # of SGLang's own interface
        value = value.get("type")
    if value is None or value == "":
        return "length" if at_the_limit else "stop"
    if not isinstance(value, str):
        raise ReplyError("MalformedReply", f"its finish_reason is no word: {short(value)}")
    word = one_line(value)[:_LONGEST_WORD].lower()
    if word in INTERRUPTIONS:
        raise ReplyError("Interrupted", f"the server broke off the response (finish_reason {word})")
    return "stop" if word in NATURAL_ENDS else "length" if word in AT_THE_LIMIT else word


def _count(value: Any) -> int | None:
    """A count of tokens; None for what cannot be one."""
    is_possible = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return int(value) if is_possible and value == int(value) else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
