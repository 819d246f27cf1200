"""The prompt of a row as polars expressions: the system message, the turns before, the user's message.

A question that is a text becomes its messages by native code. Conversations are put together by the function that also
makes the prompts of training, so that what is exported is what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import polars as pl

from cohobate.core.answer_parsing import THINK_CLOSE, THINK_OPEN
from cohobate.core.conversation import Conversation
from cohobate.models.chat_template import messages

Reasoning = Literal["think", "field"]
REASONINGS: tuple[Reasoning, ...] = get_args(Reasoning)
Turns = Literal["last", "all"]
TURNS: tuple[Turns, ...] = get_args(Turns)

# In the JSON of the column `conversation`, whose texts have their quotation marks escaped.
_ASSISTANT, _SYSTEM, _TURN = '"role": "assistant"', '"role": "system"', '"role": "(?:user|assistant)"'


@dataclass(frozen=True)
class Style:
    """How a row is written.

    reasoning: think puts the rationale between <think> tags in the text; field puts it under the message key
    `reasoning_content`. prompt: the user message, with {question}. system: a system message, if any. separator: between
    the parts of a plain text. turns: which assistant messages are learnt. has_turns, has_systems: whether some rows
    have assistant messages before the last, and system messages of their own.
    """

    reasoning: Reasoning = "think"
    prompt: str = "{question}"
    system: str | None = None
    separator: str = " ### "
    turns: Turns = "last"
    has_turns: bool = False
    has_systems: bool = False

    @property
    def marks_turns(self) -> bool:
        """Whether each message says if it is learnt: trainers learn every assistant message otherwise."""
        return self.has_turns and self.turns == "last"

    @property
    def writes_systems(self) -> bool:
        """Whether some row has a system message."""
        return bool(self.system) or self.has_systems


def has_turns() -> pl.Expr:
    """Whether some question has assistant messages."""
    return pl.col("conversation").str.contains(_ASSISTANT, literal=True).any()


def has_systems() -> pl.Expr:
    """Whether some question has a system message."""
    return pl.col("conversation").str.contains(_SYSTEM, literal=True).any()


def is_one_turn() -> pl.Expr:
    """Whether a question is one user message, perhaps under a system message."""
    return (pl.col("conversation").str.count_matches(_TURN) <= 1).fill_null(True)


def message(role: str, content: pl.Expr, style: Style, rationale: pl.Expr | None = None) -> pl.Expr:
    """A message, with the further keys of the style."""
    fields = [pl.lit(role).alias("role"), content.alias("content")]
    if style.reasoning == "field":
        fields.append((pl.lit(None, dtype=pl.String) if rationale is None else rationale).alias("reasoning_content"))
    if style.marks_turns:
        fields.append(pl.lit(role == "assistant").alias("train"))
    return pl.struct(fields)


def opening(style: Style) -> pl.Expr:
    """The list of messages before the reply."""
    system = [message("system", pl.lit(style.system), style)] if style.system else []
    texts = pl.concat_list(*system, message("user", _of_a_text(style), style))
    return _either(texts, lambda conversation: _messages(conversation, style), pl.List(_kind(style)))


def user_message(style: Style) -> pl.Expr:
    """The user's last message."""
    return _either(_of_a_text(style), lambda conversation: _under(conversation, style)[-1]["content"], pl.String())


def system_message(style: Style) -> pl.Expr:
    """The system message at the beginning, "" where there is none."""

    def of(conversation: Conversation) -> str:
        first = _under(conversation, style)[0]
        return first["content"] if first["role"] == "system" else ""

    return _either(pl.lit(style.system or ""), of, pl.String())


def _either(of_a_text: pl.Expr, of_a_conversation: Any, kind: pl.DataType) -> pl.Expr:
    """The expression for texts, and the function's value for conversations."""
    column = pl.col("conversation")
    of_conversations = column.map_batches(partial(_each, function=of_a_conversation, kind=kind), return_dtype=kind)
    return pl.when(column.is_null()).then(of_a_text).otherwise(of_conversations)


def _each(column: pl.Series, function: Any, kind: pl.DataType) -> pl.Series:
    values = [None if written is None else function(Conversation.read(written)) for written in column]
    return pl.Series(values, dtype=kind)


def _of_a_text(style: Style) -> pl.Expr:
    """The user's message, with {question} replaced."""
    before, *after = style.prompt.split("{question}")
    pieces: list[pl.Expr] = [pl.lit(before)]
    for text in after:
        pieces += [pl.col("question"), pl.lit(text)]
    return pl.concat_str(pieces)


def _under(conversation: Conversation, style: Style) -> list[dict[str, str]]:
    return messages(conversation, style.prompt, style.system)


def _messages(conversation: Conversation, style: Style) -> list[dict[str, Any]]:
    return [_with_keys(each["role"], each["content"], style) for each in _under(conversation, style)]


def _with_keys(role: str, content: str, style: Style) -> dict[str, Any]:
    made: dict[str, Any] = {"role": role, "content": content}
    if style.reasoning == "field":
        thought, end, rest = content.rpartition(THINK_CLOSE) if role == "assistant" else ("", "", content)
        made["content"] = rest.strip() if end else content
        made["reasoning_content"] = thought.replace(THINK_OPEN, "").strip() if end else None
    if style.marks_turns:
        made["train"] = False
    return made


def _kind(style: Style) -> pl.Struct:
    fields = {"role": pl.String, "content": pl.String}
    fields |= {"reasoning_content": pl.String} if style.reasoning == "field" else {}
    return pl.Struct({**fields, **({"train": pl.Boolean} if style.marks_turns else {})})
