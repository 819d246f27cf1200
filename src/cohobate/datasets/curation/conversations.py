"""Conversations as the filters of questions see them.

System messages are instructions, which thousands of questions may share: no filter takes them for a part of the
question, but questions with different ones are never near-duplicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohobate.core.conversation import Conversation, queries
from cohobate.core.normal_form import normal

if TYPE_CHECKING:
    import polars as pl


def dialogues(questions: pl.DataFrame) -> list[str]:
    """What user and assistant wrote, of each row; columns question, conversation."""
    return [each.dialogue if isinstance(each, Conversation) else each for each in queries(questions)]


def systems(questions: pl.DataFrame) -> list[str]:
    """The normal form of each row's system messages, "" where there are none."""
    return [_system(each) if isinstance(each, Conversation) else "" for each in queries(questions)]


def passages(questions: pl.DataFrame) -> tuple[list[int], list[str]]:
    """The texts that may repeat an evaluation question, and the row of each: all of a question, and its user messages.

    A short evaluation question is met by an equal text only, and may be one of many user messages.
    """
    owners: list[int] = []
    texts: list[str] = []
    for row, each in enumerate(queries(questions)):
        own = dict.fromkeys([each] if isinstance(each, str) else [each.dialogue, *_of(each, "user")])
        texts += own
        owners += [row] * len(own)
    return owners, texts


def _system(conversation: Conversation) -> str:
    return normal("\n\n".join(_of(conversation, "system")))


def _of(conversation: Conversation, role: str) -> list[str]:
    return [message.content for message in conversation.messages if message.role == role]
