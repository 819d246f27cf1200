"""Frequencies of the values of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def counts(values: pl.Series) -> dict[str, int]:
    """The number of occurrences of each value, the most frequent first; nulls are not counted."""
    table = values.drop_nulls().value_counts(name="n")
    return dict(table.sort("n", values.name, descending=[True, False]).iter_rows())
