"""Which of several teachers each question goes to."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from cohobate.config import Route
from cohobate.core.errors import QuestionsError
from cohobate.sources.values import text_of

# Columns of the program's own that say what a question is about; the file's own are in `meta`.
_OWN = ("kind", "depth")
_SHOWN = 60
_LISTED = 6


def require_values(route: Route, questions: pl.DataFrame) -> None:
    """Raise QuestionsError for a column, or for one of route.values, that none of `questions` has.

    questions: those of all splits, with the columns that `teachers_of` reads; none is no fault.
    """
    if route.column is None or questions.is_empty():
        return
    counts = Counter(value for value in _values(questions, route.column) if value is not None)
    if not counts:
        raise QuestionsError(
            f"no question has a value in the column '{route.column}' of [route]; they have: {_columns(questions)}"
        )
    for value, name in route.values.items():
        if value not in counts:
            listed = ", ".join(f"'{each[:_SHOWN]}'" for each, _ in counts.most_common(_LISTED))
            raise QuestionsError(
                f"no question has the value '{value[:_SHOWN]}' in the column '{route.column}', which [route] sends to "
                f"'{name}'; correct route.values, or drop it there: the values are {listed}"
                + (f", and {len(counts) - _LISTED} others" if len(counts) > _LISTED else "")
            )


def teachers_of(route: Route, questions: pl.DataFrame) -> pl.Series:
    """The name of each question's teacher.

    questions: columns question_id and meta, and kind and depth where the route names one of them. Raises QuestionsError
    for a value without a teacher.
    """
    if route.share:
        drawn = [_by_share(route.share, each) for each in questions["question_id"]]
        return pl.Series("teacher", drawn, dtype=pl.String)
    assert route.column is not None
    values = list(_values(questions, route.column))
    names: list[str | None]
    names = [route.default if value is None else route.values.get(value, route.default) for value in values]
    lacking = Counter(value for value, name in zip(values, names, strict=True) if name is None)
    if lacking:
        value, count = lacking.most_common(1)[0]
        what = "no value" if value is None else f"the value '{value[:_SHOWN]}'"
        raise QuestionsError(
            f"{count} questions have {what} in the column '{route.column}', for which [route] has no teacher; add it "
            "to route.values, or set route.default"
        )
    return pl.Series("teacher", names, dtype=pl.String)


def _by_share(shares: dict[str, float], question_id: str) -> str:
    """The teacher whose part of [0, 1) the id's hash falls into; parts in the order of `shares`."""
    place = int.from_bytes(hashlib.sha256(f"route\0{question_id}".encode()).digest()[:8], "big") / 2**64
    place *= sum(shares.values())
    *before, last = shares
    for name in before:
        place -= shares[name]
        if place < 0:
            return name
    return last


def _values(questions: pl.DataFrame, column: str) -> Iterator[str | None]:
    """The column's value of each question as text; None where there is none."""
    own = questions[column].to_list() if column in _OWN and column in questions.columns else [None] * len(questions)
    for meta, value in zip(questions["meta"], own, strict=True):
        further = json.loads(meta) if meta else {}
        yield _text(further.get(column, value))


def _text(value: Any) -> str | None:
    if isinstance(value, float) and math.isfinite(value):  # without a fraction, it is written as an integer
        return text_of(value, "route.column")
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(questions: pl.DataFrame) -> str:
    further = {name: None for meta in questions["meta"].drop_nulls() for name in json.loads(meta)}
    return ", ".join([*further, *(name for name in _OWN if questions[name].is_not_null().any())]) or "none"
