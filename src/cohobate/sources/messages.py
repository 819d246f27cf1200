"""Chat messages in a column: {role, content} or {from, value} objects, also as the text of their JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cohobate.sources.json_text import JsonError, parse
from cohobate.sources.values import RowError

Message = Mapping[str, Any]

_USERS = ("user", "human")
_TOOLS = ("tool", "function", "ipython", "observation", "function_call")
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

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"'{name}' holds content of the kind {kind}, and only text can be asked; drop the row, or set "
            "questions.unsupported = 'drop'"
        )
        self.kind = kind


def messages_in(value: Any, name: str) -> Sequence[Message] | None:
    """The messages of a value of the column `name`; None for another value. Raises RowError for broken JSON of them."""
    if isinstance(value, str) and _LIKE_MESSAGES.match(value):
        try:
            value = parse(value)
        except JsonError as error:
            raise RowError(f"'{name}' holds chat messages as text that {error}; write them by json.dumps") from None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    return None


def first_user_text(messages: Sequence[Message], name: str) -> str:
    """The text of the first message of a user, which is the question.

    Raises UnsupportedError where it, or a message before it, is more than text, and RowError without such a message.
    """
    for message in messages:
        text = _text(message, name)
        if _role(message) in _USERS:
            return text
    raise RowError(f"'{name}' holds no message of a user; the roles must be user or human")


def refuse_media(text: str, row: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedError for a placeholder such as <image> at an end of `text`, or whose image the row holds."""
    if (mark := _PLACEHOLDER.search(text)) is None:
        return
    if _AT_AN_END.search(text) or any(row.get(column) for column, kind in _MEDIA.items() if kind == mark[1]):
        raise UnsupportedError(mark[1], name)


def refuse_tools(row: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedError where the row gives its messages tools."""
    if any(row.get(column) not in (None, "", "[]", [], {}) for column in ("tools", "functions")):
        raise UnsupportedError("tools", name)


def _role(message: Message) -> Any:
    return message.get("role") or message.get("from")


def _text(message: Message, name: str) -> str:
    if _role(message) in _TOOLS or message.get("tool_calls") or message.get("function_call"):
        raise UnsupportedError("tool", name)
    for field, kind in _MEDIA.items():
        if message.get(field):
            raise UnsupportedError(kind, name)
    content = message["content"] if message.get("content") is not None else message.get("value")
    if isinstance(content, list | tuple):
        return "\n".join(_part(part, name) for part in content)
    if isinstance(content, dict):
        return _part(content, name)
    return content if isinstance(content, str) else ""


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
