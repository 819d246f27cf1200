"""Rows of Parquet files, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.core import progress
from cohobate.core.errors import QuestionsError
from cohobate.sources import arrow_rows
from cohobate.sources.arrow_rows import BATCH, PIECE
from cohobate.sources.base import LONGEST_ROW, NumberedRow


def rows(path: Path) -> Iterator[NumberedRow]:
    """(row number, row) of each row of a Parquet file. Raises QuestionsError when it is not readable."""
    try:
        yield from numbered(_batches(path), str(path))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise QuestionsError(f"{path} is not readable as Parquet: {reason}") from None


def numbered(batches: Iterable[pa.RecordBatch | pa.Table], name: str) -> Iterator[NumberedRow]:
    """The rows of `batches`, numbered from 1; `name` is the table's, in messages."""
    number = 0
    for batch in batches:
        yield from enumerate(arrow_rows.rows(batch, number + 1, name), number + 1)
        number += batch.num_rows


def say_left_out(schema: pa.Schema, name: str) -> None:
    """Tell which columns hold bytes, and so are not read."""
    names = set(schema.names) - set(arrow_rows.readable(schema))
    if names:
        progress.say(f"{name}: {', '.join(sorted(names))} left out, since only text is asked and kept")


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        say_left_out(schema, str(path))
    # A value that repeats takes its bytes once in the file; unpacked, a file of 100 kB has gigabytes.
    with pq.ParquetFile(path, read_dictionary=_dictionaries(metadata)) as file:
        names = arrow_rows.readable(schema)
        if len(set(names)) < len(names):
            raise QuestionsError(f"{path} names a column twice ({', '.join(names)}); rename one")
        for group in range(metadata.num_row_groups):
            size = _rows_at_a_time(metadata.row_group(group), path)
            yield from file.iter_batches(batch_size=size, row_groups=[group], columns=names)


def _dictionaries(metadata: pq.FileMetaData) -> list[str]:
    """The columns of text that have a dictionary in some row group."""
    columns = (
        metadata.row_group(group).column(at)
        for group in range(metadata.num_row_groups)
        for at in range(metadata.num_columns)
    )
    return sorted({c.path_in_schema for c in columns if c.physical_type == "BYTE_ARRAY" and c.has_dictionary_page})


def _rows_at_a_time(group: pq.RowGroupMetaData, path: Path) -> int:
    sizes = [group.column(at).total_uncompressed_size for at in range(group.num_columns)]
    average: int = sum(sizes) // max(group.num_rows, 1)
    if average > LONGEST_ROW:
        raise QuestionsError(
            f"{path} has rows of {average >> 20:,} MiB; the longest that is read is {LONGEST_ROW >> 20} MiB"
        )
    return max(1, min(BATCH, PIECE // max(average, 1)))
