"""What every source of rows gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
# The row, and its number from 1 as its file counts: lines of text, or rows of a table.
Numbered = tuple[int, Row]


@dataclass(frozen=True)
class Part:
    """One file or dataset.

    name: for messages. label: kept in each question's meta, where there are several parts. unit: what is counted.
    """

    name: str
    unit: Literal["line", "row"]
    read: Callable[[], Iterator[Numbered]]
    label: str | None = None
