"""Rows of a CSV file with a header: every cell is text, an empty one is None."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cohobate.core.errors import QuestionsError
from cohobate.sources.base import LONGEST_ROW, NumberedRow
from cohobate.sources.text import refuse_encoding


def rows(path: Path) -> Iterator[NumberedRow]:
    """(row number, row) of each row that is not blank. Raises QuestionsError naming the line."""
    csv.field_size_limit(LONGEST_ROW)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(csv.reader(file, strict=True), path)
    except UnicodeDecodeError:
        raise refuse_encoding(path) from None


def _rows(reader: Any, path: Path) -> Iterator[NumberedRow]:
    try:
        header: list[str] = next(reader, [])
        if len(set(header)) < len(header):
            raise QuestionsError(f"{path} names a column twice in its header ({', '.join(header)}); rename one")
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                raise QuestionsError(
                    f"{path} is not readable as CSV: the row that ends in line {reader.line_num} has {len(cells)} "
                    f"cells, the header {len(header)}; quote cells that hold commas"
                )
            yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise QuestionsError(f"{path} is not readable as CSV: line {reader.line_num}: {error}") from None
