"""From a row of any source to a question: which column is which, and what is taken of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from cohobate.config import Questions
from cohobate.sources.base import Row

_MISSING = object()
_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_USERS = ("user", "human")


class RowError(Exception):
    """A row that cannot be used, in words that follow the row's place."""


class Mapping:
    """Turns rows into (id, question, gold answer, gold response, split, meta). Notes which columns it has seen."""

    def __init__(self, config: Questions) -> None:
        self.columns, self.gold_after = config.columns, config.gold_after
        named = self.columns
        self.used = {named.question, named.gold_response, named.id, named.choices, "split"}
        # With a mark, the rest of the text is a rationale worth keeping.
        self.used |= set() if self.gold_after else {self.columns.gold_answer}
        self.found: set[str] = set()
        self.names: dict[str, None] = {}

    def __call__(
        self, row: Row, label: str | None = None
    ) -> tuple[str | None, str, str | None, str | None, str | None, str | None]:
        """Raises RowError. The question is "" where there is none, the id None where it has no column or no value."""
        columns = self.columns
        if not self.names.keys() >= row.keys():
            self.names.update(dict.fromkeys(row))
        question = self._question(self._look(row, columns.question))
        gold = self._gold(self._look(row, columns.gold_answer))
        if columns.choices is not None:
            given = self._look(row, columns.choices)
            if columns.choices in self.found:  # else the whole column is missing, which is said at the end
                question, gold = _with_choices(question, gold, given, columns.choices)
        name, response = (
            None if column is None else _text(self._look(row, column), column)
            for column in (columns.id, columns.gold_response)
        )
        split = _text(row.get("split"), "split")
        meta = {key: value for key, value in row.items() if key not in self.used}
        if label is not None:
            meta["source_file"] = label
        return name, question, None if gold is None else str(gold), response, split, _json(meta) if meta else None

    def _look(self, row: Row, name: str) -> Any:
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
        self.found.add(name)
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
        _, found, after = gold.rpartition(mark)
        if not found:
            raise RowError(f"'{self.columns.gold_answer}' holds no {mark!r}; correct questions.gold_after, or the row")
        return after.strip()


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


def _with_choices(question: str, gold: str | int | None, given: Any, name: str) -> tuple[str, str | None]:
    """The question with its choices below, and the label of the right one."""
    texts, labels = _choices(given, name)
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


def _choices(given: Any, name: str) -> tuple[list[str], list[str]]:
    labels: Any = None
    if isinstance(given, dict):
        given, labels = given.get("text"), given.get("label")
    if not isinstance(given, list) or not given:
        raise RowError(f"'{name}' holds no list of choices")
    texts = [str(choice) for choice in given]
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
