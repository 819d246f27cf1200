"""What a model is asked: the text of a question, or a whole conversation up to its last user message.

A question that is one user message is that message's text, in every table and on every way. Any other is a
`Conversation`; tables have its transcript in the column `question`, for people, judges and filters, and its messages as
JSON in the column `conversation`, which is null for a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

Role = Literal["system", "user", "assistant"]
_NAMES: dict[Role, str] = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Message:
    """The text that one side of a conversation wrote."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages that a model is asked with, in order; a user wrote the last."""

    messages: tuple[Message, ...]

    @classmethod
    def of_text(cls, text: str) -> Conversation:
        """A single user message."""
        return cls((Message("user", text),))

    @classmethod
    def read(cls, written: str) -> Conversation:
        """The conversation of a value of the column `conversation`."""
        return cls(tuple(Message(**message) for message in json.loads(written)))

    @property
    def last(self) -> str:
        """The last user message."""
        return self.messages[-1].content

    @property
    def system(self) -> str | None:
        """The system message at the beginning; None where there is none."""
        first = self.messages[0]
        return first.content if first.role == "system" else None

    @property
    def is_text(self) -> bool:
        """Whether it is one user message and nothing else."""
        return len(self.messages) == 1

    @property
    def written(self) -> str | None:
        """The value of the column `conversation`: its messages as JSON, None for a text."""
        return None if self.is_text else json.dumps(self.as_dicts(), ensure_ascii=False)

    @property
    def transcript(self) -> str:
        """The value of the column `question`: every message under the name of its role; of a text the text itself."""
        if self.is_text:
            return self.last
        return "\n\n".join(f"{_NAMES[message.role]}: {message.content}" for message in self.messages)

    @property
    def dialogue(self) -> str:
        """What user and assistant wrote, one message after another."""
        return "\n\n".join(message.content for message in self.messages if message.role != "system")

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as chat templates and OpenAI-compatible servers take them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    def with_last(self, text: str) -> Conversation:
        """The conversation with another last message."""
        return replace(self, messages=(*self.messages[:-1], Message("user", text)))

    def under(self, system: str | None) -> Conversation:
        """The conversation under the instructions `system`, which stand before those of its own."""
        if not system:
            return self
        own = self.system
        rest = self.messages if own is None else self.messages[1:]
        return replace(self, messages=(Message("system", system if own is None else f"{system}\n\n{own}"), *rest))

    def answered_turns(self) -> Iterator[tuple[Conversation, str]]:
        """Each assistant message that answers a user, behind the conversation up to it."""
        for place, message in enumerate(self.messages):
            if message.role == "assistant" and place and self.messages[place - 1].role == "user":
                yield replace(self, messages=self.messages[:place]), message.content


Query = str | Conversation


def query(question: str, conversation: str | None) -> Query:
    """What a row asks, by its columns of these names."""
    return question if conversation is None else Conversation.read(conversation)


def queries(frame: pl.DataFrame) -> list[Query]:
    """What each row of a table asks: columns question, and conversation, which older tables lack."""
    questions: list[Query] = frame["question"].to_list()
    if "conversation" not in frame.columns or frame["conversation"].null_count() == len(frame):
        return questions
    return [query(*row) for row in frame.select("question", "conversation").iter_rows()]


def written_by_people(question: Query) -> str:
    """What is asked without the assistant's messages, which hold marks of thoughts."""
    if isinstance(question, str):
        return question
    return "\n\n".join(message.content for message in question.messages if message.role != "assistant")
