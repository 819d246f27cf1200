"""A question of any source, and a file or dataset whose rows become questions."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cohobate.core.conversation import Conversation
from cohobate.core.normal_form import plain

Row = dict[str, Any]
# The row, and its number from 1 as its file counts: lines of text, or rows of a table.
NumberedRow = tuple[int, Row]
Unit = Literal["line", "row"]
# Bytes of a row; a longer one is no question but a mistake, or an attack on the memory.
LONGEST_ROW = 64 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """A question: one row of questions.parquet, whose columns are these fields in order.

    text: of the question, or the transcript of a whole `conversation`. id: None where the source's id column has no
    value. split: None where it is still to be drawn. kind: `file`, `documents`, or a kind of the world's questions;
    depth: operations of an arithmetic question. meta: JSON.
    """

    id: str | None
    text: str
    gold_answer: str | None = None
    gold_response: str | None = None
    split: str | None = None
    kind: str = "file"
    depth: int | None = None
    meta: str | None = None
    conversation: Conversation | None = None

    @property
    def written_conversation(self) -> str | None:
        """The value of the column `conversation`."""
        return None if self.conversation is None else self.conversation.written


def question_id(text: str) -> str:
    """The id of a question without one of its own: 16 hex digits of the hash of its NFC-normalised, stripped text."""
    normalised = unicodedata.normalize("NFC", text.strip())
    return hashlib.sha256(normalised.encode()).hexdigest()[:16]


def conversation_id(conversation: Conversation) -> str:
    """The id of what is asked, of the same form; of a whole conversation by the normal form of all its messages."""
    if conversation.is_text:
        return question_id(conversation.last)
    forms = [[message.role, " ".join(plain(message.content).split())] for message in conversation.messages]
    return question_id(json.dumps(forms, ensure_ascii=False))


@dataclass(frozen=True)
class Part:
    """One file or dataset.

    name: in messages. label: kept in each question's meta, where there are several parts. unit: of the rows' numbers.
    """

    name: str
    unit: Unit
    read: Callable[[], Iterator[NumberedRow]]
    label: str | None = None
