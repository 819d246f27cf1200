"""Frames of polars as Parquet files of the declared tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cohobate.schema import Table

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows; of long responses, some tens of megabytes.
ROW_GROUP = 1 << 14


def of(frame: pl.DataFrame, declared: Table) -> pl.DataFrame:
    """The columns of `declared`, found in `frame` by their names. Raises ValueError for a null where none belongs."""
    chosen = frame.select(pl.col(name).cast(kind) for name, kind in declared.polars.items())
    for column in chosen.select(name for name in declared.names if name in declared.required):
        if column.null_count():
            raise ValueError(f"{column.null_count()} of {len(column)} rows have no {column.name}")
    return chosen


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """The same with the types of a declared table."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


class Pieces:
    """A Parquet file, written a piece at a time.

    polars writes the first piece, and cannot add to a file. Arrow can, but loading it takes 45 MB, which a table of one
    piece does without.
    """

    def __init__(self, path: Path, declared: Table) -> None:
        self.path, self.declared = path, declared
        self._first = True
        self._more: pq.ParquetWriter | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Append the columns of the declared table. Raises ValueError for a null where none belongs."""
        piece = of(frame, self.declared)
        if self._first:
            piece.write_parquet(self.path, row_group_size=ROW_GROUP)
            self._first = False
            return
        if self._more is None:
            self._more = self._reopened()
        self._more.write_table(to_arrow(piece), row_group_size=ROW_GROUP)

    def close(self) -> None:
        """Finish the file; without any piece it is an empty table."""
        if self._first:
            self.add(self.declared.polars.to_frame())
        if self._more is not None:
            self._more.close()

    def _reopened(self) -> pq.ParquetWriter:
        """A writer that has the first piece already."""
        import pyarrow.parquet as pq

        first = self.path.with_suffix(".first.tmp")
        self.path.rename(first)
        try:
            writer = pq.ParquetWriter(self.path, self.declared.arrow, compression="zstd")
            with pq.ParquetFile(first, pre_buffer=False) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group).cast(self.declared.arrow))
        finally:
            first.unlink()
        return writer
