"""From a row of any source to a `Question`: the column of each field, and the value taken from it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

from cohobate.config import Questions
from cohobate.core.conversation import Conversation
from cohobate.sources.base import Question, Row, conversation_id
from cohobate.sources.gold import gold_of
from cohobate.sources.messages import Chat, chat_of, messages_in, refuse_media, refuse_tools
from cohobate.sources.values import RowError, integer, text_of

_MISSING = object()
_INDEX = re.compile("-?[0-9]{1,6}")
_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Mapping:
    """Turns the rows of one part into questions, and records the columns that occur.

    present: the configured columns with a value in some row. names: all columns of the rows, in order.
    """

    def __init__(self, config: Questions) -> None:
        self.columns, self.gold_after = config.columns, config.gold_after
        self.drops_unsupported, self.system = config.unsupported == "drop", config.system
        columns = self.columns
        self.used = {columns.question, columns.gold_response, columns.system, columns.id, columns.choices, "split"}
        # With a mark, the rest of the text is a rationale worth keeping.
        self.used |= set() if self.gold_after else {columns.gold_answer}
        self.present: set[str] = set()
        self.names: dict[str, None] = {}

    def question(self, row: Row, label: str | None = None) -> Question:
        """The question of `row`; its text is "" where there is none. Raises RowError.

        label: of the part, for the question's meta.
        """
        columns = self.columns
        if not self.names.keys() >= row.keys():
            self.names.update(dict.fromkeys(row))
        chat = self._chat(row)
        conversation, text = chat.question, chat.question.last
        written = self._value(row, columns.gold_answer)
        gold = self._gold(written)
        if columns.choices is not None:
            choices = self._value(row, columns.choices)
            if columns.choices in self.present:  # else the column is missing, which `table` reports at the end
                text, gold = _with_choices(text, gold, choices, columns.choices)
                conversation = conversation.with_last(text)
        meta = {key: value for key, value in row.items() if key not in self.used}
        if gold != written and self._holds_a_solution(written, row):
            meta[columns.gold_answer] = written
        if label is not None:
            meta["source_file"] = label
        question = Question(
            id=conversation_id(conversation)
            if columns.id is None
            else text_of(self._value(row, columns.id), columns.id),
            text=text,
            gold_answer=None if gold is None else str(gold),
            gold_response=self._gold_response(row) or chat.response,
            split=text_of(row.get("split"), "split"),
            meta=_json(meta) if meta else None,
        )
        return with_conversation(question, conversation, self.system) if text else question

    def _value(self, row: Row, name: str) -> Any:
        """The value at a dotted name; a column that has the dots in its name comes first."""
        value: Any = row.get(name, _MISSING)
        if value is _MISSING and "." in name:
            value = row
            for part in name.split("."):
                value = messages_in(value, name) or value  # lists of messages may be text
                if isinstance(value, dict):
                    value = value.get(part, _MISSING)
                elif isinstance(value, list) and _INDEX.fullmatch(part) and -len(value) <= int(part) < len(value):
                    value = value[int(part)]
                else:
                    value = _MISSING
        if value is _MISSING:
            return None
        self.present.add(name)
        return value

    def _chat(self, row: Row) -> Chat:
        name = self.columns.question
        value = self._value(row, name)
        messages = messages_in(value, name)
        if messages is None:
            chat = Chat(Conversation.of_text((text_of(value, name) or "").strip()), None)
        else:
            chat = chat_of(messages, name)
            refuse_tools(row, name)
        if self.columns.system is not None and chat.question.system is None:
            system = text_of(self._value(row, self.columns.system), self.columns.system)
            chat = replace(chat, question=chat.question.under((system or "").strip()))
        for message in chat.question.messages:
            if message.role == "user":
                refuse_media(message.content, row, name)
        return chat

    def _gold(self, value: Any) -> str | int | None:
        """Text; an integer stays one, since it may be the position of a choice."""
        if self.columns.choices is not None and (position := integer(value)) is not None:
            return position
        name = self.columns.gold_answer
        return gold_of(text_of(value, name), self.gold_after, name)

    def _holds_a_solution(self, written: Any, row: Row) -> bool:
        """Whether the text around the gold answer would be lost."""
        columns = self.columns
        if self.gold_after or columns.choices is not None or columns.gold_answer == columns.gold_response:
            return False
        return isinstance(written, str) and columns.gold_answer in row

    def _gold_response(self, row: Row) -> str | None:
        column = self.columns.gold_response
        return None if column is None else text_of(self._value(row, column), column)


def with_conversation(question: Question, conversation: Conversation, system: str | None) -> Question:
    """`question` that asks with `conversation`, and with the system message `system` where it has none of its own."""
    complete = conversation.under(system) if conversation.system is None else conversation
    return question if complete.is_text else replace(question, text=complete.transcript, conversation=complete)


def _with_choices(question: str, gold: str | int | None, choices: Any, name: str) -> tuple[str, str | None]:
    """The question with its choices below, and the label of the right one."""
    texts, labels = _texts_and_labels(choices, name)
    listed = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=True))
    if gold is None:
        return f"{question}\n{listed}", None
    if isinstance(gold, int):
        if not 0 <= gold < len(texts):
            raise RowError(f"the gold answer {gold} is no position among the {len(texts)} of '{name}'")
        return f"{question}\n{listed}", labels[gold]
    if gold not in labels:
        if texts.count(gold) != 1:
            raise RowError(f"the gold answer {gold!r} is neither a label nor one text of '{name}'")
        gold = labels[texts.index(gold)]
    return f"{question}\n{listed}", gold


def _texts_and_labels(choices: Any, name: str) -> tuple[list[str], list[str]]:
    labels: Any = None
    if isinstance(choices, dict):
        choices, labels = choices.get("text"), choices.get("label")
    if not isinstance(choices, list) or not choices:
        raise RowError(f"'{name}' holds no list of choices")
    texts = [str(choice) for choice in choices]
    labels = list(_LABELS[: len(texts)]) if labels is None else [str(label) for label in labels]
    if len(labels) != len(texts):
        raise RowError(f"'{name}' holds {len(texts)} choices with {len(labels)} labels")
    return texts, labels


def _json(meta: dict[str, Any]) -> str:
    try:
        return json.dumps(meta, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_without_nan(meta), ensure_ascii=False, default=str)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
