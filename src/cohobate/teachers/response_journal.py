"""Journals of the response store: one line per batch of responses, with the CRC-32 of the line.

    0f3a9c01 {"max_tokens": 64, ..., "rows": [[...], ...]}

A line torn by a kill is dropped. A line that was altered is reported, and its responses are asked for again. Journals
of earlier versions have lines without a checksum.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cohobate.core import progress, sanitize
from cohobate.core.schema import RESPONSES
from cohobate.teachers.base import Response

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = [each.name for each in fields(Response)]
_BATCH_COLUMNS = ["max_tokens", "paid_by", "engine_version", "created_at"]
_values = attrgetter(*_COLUMNS)
_LARGEST = 2**31 - 1  # of the counts in schema.RESPONSES
_CRC32 = 8  # hexadecimal digits, and a blank behind them
# Rows of a journal or a part that are in memory at a time; of long responses, some tens of megabytes.
READ_ROWS = 1 << 14


class Writer:
    """Appends batches to one journal. same_for_all: the columns whose value every response shares."""

    def __init__(self, file: IO[bytes], same_for_all: dict[str, object]) -> None:
        self.file, self.same_for_all = file, same_for_all

    def append(self, responses: Sequence[Response]) -> None:
        """Store a batch; when this returns, no kill can take it away."""
        if not responses:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [_values(storable(response)) for response in responses]
        batch = {**self.same_for_all, "created_at": now, "rows": rows}
        line = json.dumps(batch, ensure_ascii=False).encode()
        self.file.write(b"%08x %s\n" % (zlib.crc32(line), line))
        self.file.flush()
        os.fsync(self.file.fileno())


def storable(response: Response) -> Response:
    """`response` as every reader of the store takes it: odd characters replaced, counts that are none left out."""
    thought, model = response.reasoning, response.served_model
    return replace(
        response,
        text=sanitize.storable(response.text),
        reasoning=None if thought is None else sanitize.storable(thought),
        finish_reason=sanitize.storable(response.finish_reason),
        prompt_tokens=_count(response.prompt_tokens) or 0,
        completion_tokens=_count(response.completion_tokens) or 0,
        reasoning_tokens=_count(response.reasoning_tokens),
        served_model=sanitize.storable(model) if isinstance(model, str) else None,
    )


def frames(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of the journal's lines, some thousand at a time; an altered line is reported."""
    rows: list[list[Any]] = []
    for number, line in enumerate(_lines(path), 1):
        read = _rows(line)
        if read is None:
            _say_once(f"{path}, line {number} was altered; its responses are asked for again where they are needed")
            continue
        rows += read
        if len(rows) >= READ_ROWS:
            yield _frame(rows, path)
            rows = []
    if rows:
        yield _frame(rows, path)


def is_damaged(path: Path) -> bool:
    """Whether a line of the journal was altered."""
    return any(_rows(line) is None for line in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # compacted since it was listed: its rows are in a part now
        return
    with file:
        for line in file:
            if line.endswith(b"\n"):  # else it was torn by a kill
                yield line[:-1]


def _rows(line: bytes) -> list[list[Any]] | None:
    """The rows of schema.RESPONSES in a line, in the order of _COLUMNS and _BATCH_COLUMNS; None: it was altered."""
    try:
        content = line if line.startswith(b"{") else line[_CRC32 + 1 :]
        if content is not line and int(line[:_CRC32], 16) != zlib.crc32(content):
            return None
        batch = json.loads(content)
        same_for_all = [batch[name] for name in _BATCH_COLUMNS]
        return [[*row, *same_for_all] for row in batch["rows"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _frame(rows: list[list[Any]], path: Path) -> pl.DataFrame:
    """`rows` as a frame of schema.RESPONSES. Those that it cannot hold are reported and left out."""
    import polars as pl

    try:
        return _typed(rows)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        typed = [frame for frame in map(_row, rows) if frame is not None]
    _say_once(f"{path}: {len(rows) - len(typed)} responses hold values of other kinds, and are asked for again")
    return pl.concat([RESPONSES.polars.to_frame(), *typed])


def _row(row: list[Any]) -> pl.DataFrame | None:
    import polars as pl

    try:
        return _typed([row])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return None


def _typed(rows: list[list[Any]]) -> pl.DataFrame:
    """Raises an error of polars' or Python's for values that the columns cannot hold."""
    import polars as pl

    kinds = RESPONSES.polars
    types = {name: kinds[name] for name in (*_COLUMNS, *_BATCH_COLUMNS)}
    frame = pl.DataFrame(rows, schema={**types, "created_at": pl.String}, orient="row")
    times = pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_unit="ms")
    frame = frame.with_columns(times).select(pl.col(name).cast(kind) for name, kind in kinds.items())
    if any(frame[name].null_count() for name in RESPONSES.required):
        raise ValueError("a value is missing")
    return frame


def _count(value: object) -> int | None:
    """A count that the columns can hold; None for anything else."""
    return value if type(value) is int and 0 <= value <= _LARGEST else None


@cache
def _say_once(line: str) -> None:
    """Report damage once, though a run looks at the same journal many times."""
    progress.say(line)
