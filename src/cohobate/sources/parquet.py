"""Rows of Parquet files and of Arrow tables, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.core.errors import QuestionsError
from cohobate.sources.base import NumberedRow

BATCH = 4096


def rows(path: Path) -> Iterator[NumberedRow]:
    """(row number, row) of each row of a Parquet file. Raises QuestionsError when it is not readable."""
    try:
        with pq.ParquetFile(path) as file:
            names = readable(file.schema_arrow)
            yield from numbered(file.iter_batches(batch_size=BATCH, columns=names))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise QuestionsError(f"{path} is not readable as Parquet: {reason}") from None


def readable(schema: pa.Schema) -> list[str]:
    """The columns that hold no bytes: images and sounds are of no use here, and take much memory."""
    return [field.name for field in schema if not _bytes(field.type)]


def numbered(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[NumberedRow]:
    """The rows of `batches`, numbered from 1."""
    number = 0
    for batch in batches:
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        for row in frame.iter_rows(named=True):
            number += 1
            yield number, row


def _bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_bytes(kind.field(i).type) for i in range(kind.num_fields))
