"""Parquet files of the declared tables, from polars frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from cohobate.core.atomic_files import ROW_GROUP, replacing
from cohobate.core.schema import Table

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_Frame = TypeVar("_Frame", pl.DataFrame, pl.LazyFrame)


def write_table(frame: pl.DataFrame, declared: Table, path: Path) -> None:
    """The columns of `declared` as Parquet. Raises ValueError for a null where none belongs."""
    with parquet_writer(path, declared) as write:
        write(frame)


def scan_table(path: Path, declared: Table) -> pl.LazyFrame:
    """A declared table, to be read lazily; columns that an earlier version of it lacks are null."""
    return completed(pl.scan_parquet(path), declared)


def completed(frame: _Frame, declared: Table) -> _Frame:
    """`frame` with the nullable columns of `declared` that it lacks, as nulls."""
    missing = set(declared.names) - declared.required - set(frame.collect_schema().names())
    return frame.with_columns(pl.lit(None, declared.polars[name]).alias(name) for name in sorted(missing))


@contextmanager
def parquet_writer(
    path: Path, declared: Table, group_rows: int = ROW_GROUP
) -> Iterator[Callable[[pl.DataFrame], None]]:
    """A function that appends frames with the columns of `declared`; the file appears when the block ends.

    group_rows: the most rows of a row group.

    The function raises ValueError for a null where none belongs.
    """
    with replacing(path) as temporary, closing(_Pieces(temporary, declared, group_rows)) as pieces:
        yield pieces.add


def _select(frame: pl.DataFrame, declared: Table) -> pl.DataFrame:
    """The columns of `declared`, by name. Raises ValueError for a null where none belongs."""
    columns = frame.select(pl.col(name).cast(kind) for name, kind in declared.polars.items())
    for column in columns.select(name for name in declared.names if name in declared.required):
        if column.null_count():
            raise ValueError(f"{column.null_count()} of {len(column)} rows have no {column.name}")
    return columns


class _Pieces:
    """A Parquet file, written piece by piece.

    polars writes the first piece, and cannot append. Arrow can, but loading it takes 45 MB, which a table of one piece
    does without.
    """

    def __init__(self, path: Path, declared: Table, group_rows: int) -> None:
        self.path, self.declared, self.group_rows = path, declared, group_rows
        self._first = True
        self._more: pq.ParquetWriter | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Append the columns of the declared table."""
        piece = _select(frame, self.declared)
        if self._first:
            piece.write_parquet(self.path, row_group_size=self.group_rows)
            self._first = False
            return
        if self._more is None:
            self._more = self._reopened()
        self._more.write_table(piece.to_arrow(compat_level=pl.CompatLevel.oldest()), row_group_size=self.group_rows)

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
                    writer.write_table(file.read_row_group(group))
        finally:
            first.unlink()
        return writer
