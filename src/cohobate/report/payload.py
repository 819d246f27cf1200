"""The rows inside a dataset page: columns of some thousand rows as JSON, compressed, in base64.

Nothing of a row is ever parsed as HTML: base64 has no character that could end a script element, and the page's own
script inserts texts as text. Texts that repeat are stored once per block (questions) or once per page (labels).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

import polars as pl

from cohobate.core.frequencies import counts

# Rows of a block: small enough that unpacking one does not hold up scrolling.
BLOCK = 2000
# Columns of few different values: the page filters by them, and a row holds a number.
LABELS = ("verdict", "reason", "finish_reason", "split", "source", "teacher", "model", "decoding", "rejected")
NUMBERS = ("sample_index", "prompt_tokens", "completion_tokens", "cost_usd", "latency_ms", "step", "gap")
_OF_A_QUESTION = ("question_id", "question", "gold", "pass_rate")
_DIGITS = 6


def labels(rows: pl.DataFrame) -> dict[str, list[str]]:
    """The different values of each label column that has any, the most frequent first."""
    values = {name: list(counts(rows[name])) for name in LABELS}
    return {name: different for name, different in values.items() if different}


def blocks(rows: pl.DataFrame, values: dict[str, list[str]]) -> Iterator[str]:
    """`rows` (columns of sample_rows.COLUMNS) as base64 texts of gzip-compressed JSON, BLOCK rows each."""
    for part in rows.iter_slices(BLOCK):
        yield packed(_columns(part, values))


def packed(values: Any) -> str:
    """JSON values as base64 of gzip-compressed JSON: a text that ends no element and no literal of a script."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packer = zlib.compressobj(6, wbits=31)  # with the header of gzip, and no time in it
    return base64.b64encode(packer.compress(text.encode("utf-8", "replace")) + packer.flush()).decode("ascii")


def _columns(part: pl.DataFrame, values: dict[str, list[str]]) -> dict[str, Any]:
    """One block: `q` is the index of a row's question in `questions`; columns without a value are absent."""
    questions = part.select(_OF_A_QUESTION).unique(maintain_order=True).with_row_index("q")
    indices = part.select(_OF_A_QUESTION).join(
        questions, on=_OF_A_QUESTION, how="left", nulls_equal=True, maintain_order="left"
    )
    columns: dict[str, Any] = {
        "questions": [_short(row) for row in questions.select(_OF_A_QUESTION).rows()],
        "q": indices["q"].to_list(),
        "id": part["sample_id"].fill_null("").to_list(),
        "answer": part["answer"].to_list(),
        "detail": part["reject_detail"].to_list(),
        **_response(part),
    }
    for name, different in values.items():
        code = {value: number for number, value in enumerate(different)}
        columns[name] = [None if value is None else code[value] for value in part[name].to_list()]
    for name in NUMBERS:
        if part[name].null_count() < len(part):
            columns[name] = [rounded(value) for value in part[name].to_list()]
    return columns


def _response(part: pl.DataFrame) -> dict[str, list[str | None]]:
    """The response around its rationale, so that no text is stored twice; `before` is null where they share nothing."""
    before: list[str | None] = []
    after: list[str | None] = []
    for rationale, response in part.select("rationale", "response").iter_rows():
        start, shared, end = (response or "").partition(rationale) if rationale else ("", "", response or "")
        before.append(start if shared else None)
        after.append(end if shared else response)
    return {"rationale": part["rationale"].to_list(), "before": before, "after": after}


def _short(row: tuple[Any, ...]) -> list[Any]:
    return [rounded(value) for value in row]


def rounded(value: Any) -> Any:
    """`value` with six digits if it is a float; None where it is not finite, for which JSON has no number."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if abs(value) < float("inf") else None
