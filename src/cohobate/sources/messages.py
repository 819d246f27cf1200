"""Chat messages in a column: {role, content} or {from, value} objects, also as the text of their JSON.

All of them up to the last user message are what is asked; the assistant's message behind it is the gold response.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.core.answer_parsing import THINK_CLOSE, THINK_OPEN
from cohobate.core.conversation import Conversation, Message, Role
from cohobate.sources.json_text import JsonError, parse
from cohobate.sources.values import RowError, text_of

Written = Mapping[str, Any]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_TOOLS = ("tool", "function", "ipython", "observation", "function_call")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "input_text", "output_text")
# A list of objects with a role, as JSON or as Python prints it.
_LIKE_MESSAGES = re.compile(r"""\s*\[\s*\{\s*['"](?:role|from|content|value)['"]\s*:""")
_PLACEHOLDER = re.compile(r"<(image|video|audio)>")
# Inside a sentence it is a tag that the question is about.
_AT_AN_END = re.compile(r"\A\s*<(?:image|video|audio)>|<(?:image|video|audio)>\s*\Z")
# Columns, or fields of a message, in which datasets keep what its placeholders stand for.
_MEDIA = {"image": "image", "images": "image", "video": "video", "videos": "video", "audio": "audio", "audios": "audio"}


class UnsupportedError(RowError):
    """A question that is more than text; kind: of what is beyond it, such as image_url or tool."""

    def __init__(self, kind: str, name: str, *, beside: bool = False) -> None:
        column = ", or the column where the text does without it" if beside else ""
        super().__init__(
            f"'{name}' holds content of the kind {kind}, and only text can be asked; drop the row{column}, or set "
            "questions.unsupported = 'drop'"
        )
        self.kind = kind


@dataclass(frozen=True)
class Chat:
    """Messages of a file, taken apart: what is asked, and the assistant's response to it, if there is one."""

    question: Conversation
    response: str | None


def messages_in(value: Any, name: str) -> Sequence[Written] | None:
    """The messages of a value of the column `name`; None for another value. Raises RowError for broken JSON of them."""
    if isinstance(value, str) and _LIKE_MESSAGES.match(value):
        try:
            value = parse(value)
        except JsonError as error:
            raise RowError(f"'{name}' holds chat messages as text that {error}; write them by json.dumps") from None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    return None


def chat_of(written: Sequence[Written], name: str) -> Chat:
    """The conversation of `written` up to its last user message, and the response behind that.

    Blank system messages are left out. Raises UnsupportedError where a message is more than text, of a role that
    cannot be asked with, or blank between others, and RowError without a user message to answer.
    """
    messages = [_message(each, number, name) for number, each in enumerate(written, 1)]
    messages = [message for message in messages if message.content or message.role != "system"]
    response = messages.pop().content if messages and messages[-1].role == "assistant" else None
    if all(message.role != "user" for message in messages):
        raise RowError(f"'{name}' holds no message of a user; the roles must be user or human")
    if messages[-1].role == "assistant":
        raise UnsupportedError("two assistant messages at the end", name)
    if messages[-1].role != "user":
        raise RowError(f"'{name}' ends with a system message; the last one must be a user's, or the response to it")
    if any(not message.content for message in messages[:-1]):
        raise UnsupportedError("blank message", name)
    return Chat(Conversation(tuple(messages)), response or None)


def refuse_media(text: str, row: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedError for a placeholder such as <image> at an end of `text`, and for images beside it."""
    beside = {kind: column for column, kind in _MEDIA.items() if column != name and _is_there(row.get(column))}
    mark = _PLACEHOLDER.search(text)
    if mark is not None and (_AT_AN_END.search(text) or mark[1] in beside):
        raise UnsupportedError(mark[1], name)
    for kind, column in beside.items():
        raise UnsupportedError(kind, column, beside=True)


def _is_there(value: Any) -> bool:
    """Whether a column of images holds one: text, an object, or a list with such."""
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}")
    if isinstance(value, list | tuple):
        return any(map(_is_there, value))
    return isinstance(value, dict) and any(value.values())


def refuse_tools(row: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedError where the row, or a message, gives tools."""
    if any(row.get(column) not in (None, "", "[]", [], {}) for column in ("tools", "functions")):
        raise UnsupportedError("tools", name)


def _message(written: Written, number: int, name: str) -> Message:
    """One message. Raises UnsupportedError or RowError."""
    given = written.get("role") or written.get("from")
    if given in _TOOLS or written.get("tool_calls") or written.get("function_call"):
        raise UnsupportedError("tool", name)
    refuse_tools(written, name)
    if not isinstance(given, str):
        raise RowError(f"message {number} of '{name}' has no role; write user, assistant or system")
    text, role = _text(written, name).strip(), _ROLES.get(given.strip().lower())
    if role is None:
        raise UnsupportedError(f"role {given[:40]}", name)
    return Message(role, _with_thoughts(written, text) if role == "assistant" else text)


def _with_thoughts(written: Written, text: str) -> str:
    """The text of an assistant, with the thoughts of a field of its own inline before it, as in a response."""
    thoughts = (written.get(field) for field in _THOUGHTS)
    thought = next((each.strip() for each in thoughts if isinstance(each, str) and each.strip()), None)
    return text if thought is None else f"{THINK_OPEN}\n{thought}\n{THINK_CLOSE}\n\n{text}"


def _text(message: Written, name: str) -> str:
    for field, kind in _MEDIA.items():
        if message.get(field):
            raise UnsupportedError(kind, name)
    content = message["content"] if message.get("content") is not None else message.get("value")
    if isinstance(content, list | tuple):
        return "\n".join(_part(part, name) for part in content)
    if isinstance(content, dict):
        return _part(content, name)
    return text_of(content, name) or ""


def _part(part: Any, name: str) -> str:
    """The text of a part of a content: a string, or an object with a type."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RowError(f"'{name}' holds a message with a part that is neither text nor an object")
    kind = part.get("type")
    if kind is None:  # Gemini's parts have no type
        kind = "text" if isinstance(part.get("text"), str) else next(iter(part), "nothing")
    text = part.get("text")
    if kind not in _TEXT_PARTS:
        raise UnsupportedError(str(kind)[:40], name)
    return text if isinstance(text, str) else ""
