"""Rows of a JSONL file, plain or compressed by gzip or zstd."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from cohobate.core import progress
from cohobate.core.errors import QuestionsError
from cohobate.sources.base import LONGEST_ROW, NumberedRow, Row
from cohobate.sources.json_text import JsonError, has_half_pair, parse

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def rows(path: Path) -> Iterator[NumberedRow]:
    """(line number, row) of each line that is not blank. Raises QuestionsError naming the line."""
    halves: list[int] = []
    try:
        with _open(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_ROW + 1), b""), 1):
                if line.strip():
                    text = _text(line, number, path)
                    if "\\u" in text and has_half_pair(text):
                        halves.append(number)
                    yield number, _row(text, number, path)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise QuestionsError(f"{path} cannot be read to its end: {error}; fetch or write it again") from None
    if halves:
        progress.say(
            f"{path} has {len(halves)} {'line' if len(halves) == 1 else 'lines'} with half a surrogate pair, such as "
            f"line {halves[0]}; each half is read as U+FFFD"
        )


def _open(path: Path) -> IO[bytes]:
    compression = _COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return path.open("rb")
    return io.BufferedReader(pa.input_stream(str(path), compression=compression), 1 << 20)


def _text(line: bytes, number: int, path: Path) -> str:
    if len(line) > LONGEST_ROW:
        raise QuestionsError(f"{path} line {number} has more than {LONGEST_ROW >> 20} MiB; drop it, or shorten it")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise QuestionsError(
            f"{path} is not UTF-8 (line {number}, byte {error.start} of it); save it as UTF-8 text"
        ) from None


def _row(text: str, number: int, path: Path) -> Row:
    try:
        row = parse(text)
    except JsonError as error:
        raise QuestionsError(f"{path} line {number} {error}") from None
    if not isinstance(row, dict):
        raise QuestionsError(f"{path} line {number} is not a JSON object")
    return row
