"""From a row of any source to a `Question`: the column of each field, and the value taken from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from cohobate.config import Questions
from cohobate.sources.base import Question, Row, question_id

_MISSING = object()
_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_USERS = ("user", "human")


class RowError(Exception):
    """A row that cannot be used; the message follows the row's place in a sentence."""


class Mapping:
    """Turns the rows of one part into questions, and records the columns that occur.

    present: the configured columns with a value in some row. names: all columns of the rows, in order.
    """

    def __init__(self, config: Questions) -> None:
        self.columns, self.gold_after = config.columns, config.gold_after
        columns = self.columns
        self.used = {columns.question, columns.gold_response, columns.id, columns.choices, "split"}
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
        text = self._question(self._value(row, columns.question))
        gold = self._gold(self._value(row, columns.gold_answer))
        if columns.choices is not None:
            choices = self._value(row, columns.choices)
            if columns.choices in self.present:  # else the column is missing, which `table` reports at the end
                text, gold = _with_choices(text, gold, choices, columns.choices)
        meta = {key: value for key, value in row.items() if key not in self.used}
        if label is not None:
            meta["source_file"] = label
        return Question(
            id=question_id(text) if columns.id is None else _text(self._value(row, columns.id), columns.id),
            text=text,
            gold_answer=None if gold is None else str(gold),
            gold_response=self._gold_response(row),
            split=_text(row.get("split"), "split"),
            meta=_json(meta) if meta else None,
        )

    def _value(self, row: Row, name: str) -> Any:
        """The value at a dotted name; a column that has the dots in its name comes first."""
        value: Any = row.get(name, _MISSING)
        if value is _MISSING and "." in name:
            value = row
            for part in name.split("."):
                if isinstance(value, dict):
                    value = value.get(part, _MISSING)
                elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                    value = value[int(part)]
                else:
                    value = _MISSING
        if value is _MISSING:
            return None
        self.present.add(name)
        return value

    def _question(self, value: Any) -> str:
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return _first_user_message(value, self.columns.question).strip()
        return (_text(value, self.columns.question) or "").strip()

    def _gold(self, value: Any) -> str | int | None:
        """Text; an integer stays one, since it may be the position of a choice."""
        if isinstance(value, int) and not isinstance(value, bool) and self.columns.choices is not None:
            return value
        gold, mark = _text(value, self.columns.gold_answer), self.gold_after
        if gold is None or mark is None:
            return gold
        if mark not in gold:
            raise RowError(f"'{self.columns.gold_answer}' holds no {mark!r}; correct questions.gold_after, or the row")
        return gold.rpartition(mark)[2].strip()

    def _gold_response(self, row: Row) -> str | None:
        column = self.columns.gold_response
        return None if column is None else _text(self._value(row, column), column)


def _text(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else f"an object with {', '.join(map(str, value))}"
        raise RowError(f"'{name}' holds no text but {kind}; name what is in it as '{name}.{_inside(value)}'")
    if isinstance(value, float) and math.isnan(value):
        return None
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, bool | int | float) else str(value)


def _inside(value: Any) -> str:
    return "0" if isinstance(value, list) else str(next(iter(value), "field"))


def _first_user_message(messages: Sequence[dict[str, Any]], name: str) -> str:
    """Of {role, content} messages, or {from, value} ones; a content may be a list of typed parts."""
    for message in messages:
        if (message.get("role") or message.get("from")) in _USERS:
            content = message["content"] if message.get("content") is not None else message.get("value")
            if isinstance(content, list):
                content = "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
            return content if isinstance(content, str) else ""
    raise RowError(f"'{name}' holds no message of a user; the roles must be user or human")


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
