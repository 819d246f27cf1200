"""Rows of a JSONL file, plain or compressed by gzip or zstd."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from cohobate.core.errors import QuestionsError
from cohobate.sources.base import NumberedRow

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def rows(path: Path) -> Iterator[NumberedRow]:
    """(line number, row) of each line that is not blank. Raises QuestionsError naming the line."""
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _row(line, number, path)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise QuestionsError(f"{path} cannot be read to its end: {error}; fetch or write it again") from None


def _open(path: Path) -> IO[bytes]:
    compression = _COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return path.open("rb")
    return io.BufferedReader(pa.input_stream(str(path), compression=compression), 1 << 20)


def _row(line: bytes, number: int, path: Path) -> dict[str, object]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise QuestionsError(
            f"{path} is not UTF-8 (line {number}, byte {error.start} of it); save it as UTF-8 text"
        ) from None
    except json.JSONDecodeError as error:
        raise QuestionsError(f"{path} line {number} is not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise QuestionsError(f"{path} line {number} is not a JSON object")
    return row
