"""Which columns of a questions file hold what, by their names and first values: a proposal for [questions]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cohobate.config import Hub
from cohobate.core.errors import QuestionsError
from cohobate.sources import files
from cohobate.sources.base import Part, Row
from cohobate.sources.hub import PREFIX, part
from cohobate.sources.messages import messages_in
from cohobate.sources.values import RowError

_ROWS = 200  # that are looked at
# Names that published datasets give to their columns, the likelier ones first.
_QUESTIONS = (
    *("question", "problem", "prompt", "messages", "conversations", "query", "instruction", "input", "task", "text"),
    *("question_text", "question_content", "user", "q"),
)
_GOLDS = (
    *("gold_answer", "answer", "final_answer", "gold", "target", "answerKey", "answer_key", "label", "answers"),
    *("expected_answer", "ground_truth", "correct_answer", "solution", "output", "response", "completion", "a"),
)
_CHOICES = ("choices", "options", "endings")
_MARKS = ("####",)
NO_GOLD = "-"  # given in place of a column
# Mean words of a column from which it holds written responses, and no answers.
_WRITTEN = 12


@dataclass(frozen=True)
class Guess:
    """columns: settings of questions.columns, by their roles. gold_after: the mark before the gold answer, if any.

    names: all columns of the file. gold: whether some column holds answers that can be compared.
    """

    columns: dict[str, str]
    names: Sequence[str] = ()
    gold_after: str | None = None
    gold: bool = False


def guess(path: str, hub: Hub, given: dict[str, str]) -> Guess:
    """What the columns of `path` seem to hold; `given` are roles whose columns are known (NO_GOLD: there is none).

    Raises QuestionsError where nothing looks like a question, or the source cannot be read.
    """
    rows = [row for _, row in islice(_first(path, hub).read(), _ROWS)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        raise QuestionsError(f"{path} holds no question")
    question = given.get("question") or _named(names, _QUESTIONS) or _only_text(rows, names)
    if question is None:
        raise QuestionsError(
            f"{path}: no column looks like a question (it has: {', '.join(names)}); name it with --question-column"
        )
    columns = {"question": question, **given}
    taken = question.split(".", 1)[0]
    choices = next((name for name in _CHOICES if name in names and _is_list(rows, name)), None)
    if choices is not None:
        columns.setdefault("choices", choices)
    if (named := columns.pop("gold_answer", None)) is not None:
        is_there = named != NO_GOLD
        return Guess({**columns, **({"gold_answer": named} if is_there else {})}, names, _mark(rows, named), is_there)
    gold = _named([name for name in names if name != taken and name not in _CHOICES], _GOLDS)
    if gold is None:
        return Guess(columns, names)
    mark = _mark(rows, gold)
    if mark is None and choices is None and _are_written(rows, gold):
        return Guess({**columns, "gold_response": gold}, names)
    return Guess({**columns, "gold_answer": gold + _inside(rows, gold)}, names, mark, True)


def _first(path: str, hub: Hub) -> Part:
    return part(path, hub) if path.startswith(PREFIX) else files.parts(files.find_tables(path))[0]


def _named(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """The first of `candidates` that is a name, in any case."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[each.lower()] for each in candidates if each.lower() in by_lower), None)


def _texts(rows: Sequence[Row], name: str) -> list[str]:
    return [row[name] for row in rows if isinstance(row.get(name), str) and row[name].strip()]


def _only_text(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """The one column in which most values are chat messages or end with a question mark; None for none or several."""
    asking = [name for name in names if 2 * sum(_asks(row.get(name), name) for row in rows) > len(rows)]
    return asking[0] if len(asking) == 1 else None


def _asks(value: Any, name: str) -> bool:
    try:
        return messages_in(value, name) is not None or (isinstance(value, str) and value.rstrip().endswith("?"))
    except RowError:
        return False


def _is_list(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(
        isinstance(each, list) or (isinstance(each, dict) and "text" in each) for each in values
    )


def _inside(rows: Sequence[Row], name: str) -> str:
    """The rest of a dotted name where the column holds lists of answers, or {text: [answers]} as SQuAD does."""
    value = next((row[name] for row in rows if row.get(name)), None)
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        return ".text.0"
    return ".0" if isinstance(value, list) and value and isinstance(value[0], str) else ""


def _mark(rows: Sequence[Row], name: str) -> str | None:
    """The mark that stands in every text of the column, before its answer."""
    texts = _texts(rows, name)
    return next((mark for mark in _MARKS if texts and all(mark in text for text in texts)), None)


def _are_written(rows: Sequence[Row], name: str) -> bool:
    """Whether the texts of the column are responses, of many words and without a box."""
    texts = _texts(rows, name)
    words = sum(len(text.split()) for text in texts)
    return words > _WRITTEN * len(texts) > 0 and 2 * sum("\\boxed" in text for text in texts) < len(texts)
