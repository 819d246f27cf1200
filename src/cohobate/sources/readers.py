"""The reader of each file extension.

To add a format of question files: a module with `rows(path)`, such as jsonl.py, and a line in `TABLES` here. Modules
are imported when they are used, since Arrow takes 45 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cohobate.sources.base import NumberedRow, Unit


@dataclass(frozen=True)
class TableReader:
    """A format of tables: its name in messages, the unit of its row numbers, and the rows of a file."""

    name: str
    unit: Unit
    rows: Callable[[Path], Iterator[NumberedRow]]


def _parquet(path: Path) -> Iterator[NumberedRow]:
    from cohobate.sources import parquet

    return parquet.rows(path)


def _csv(path: Path) -> Iterator[NumberedRow]:
    from cohobate.sources import csv

    return csv.rows(path)


def _jsonl(path: Path) -> Iterator[NumberedRow]:
    from cohobate.sources import jsonl

    return jsonl.rows(path)


_JSONL = TableReader("JSONL", "line", _jsonl)
TABLES = {
    ".parquet": TableReader("Parquet", "row", _parquet),
    ".csv": TableReader("CSV", "row", _csv),
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".jsonl.gz": _JSONL,
    ".jsonl.zst": _JSONL,
}
# Documents, which documents.py cuts into passages; only Markdown has headings and fenced blocks.
DOCUMENTS: dict[str, Literal["markdown", "text"]] = {".md": "markdown", ".markdown": "markdown", ".txt": "text"}


def suffix(path: Path) -> str:
    """The extension in lower case, with the one before that of a compression."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last in (".gz", ".zst") else last
