"""Between polars and the declared Arrow schemas, without what would be loaded along the way.

pyarrow imports pandas, where it is installed, to make an array of Python values, and its compute functions for any
cast: 60 MB and 0.2 s that a process which only writes a table has no use for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

# Arrow counts the bytes of a plain string column in 32 bits: a batch has to stay below 2 GiB.
_BATCH = 1 << 14


def polars_schema(declared: pa.Schema) -> pl.Schema:
    """The types of `declared` as polars has them."""
    return pl.Schema(declared)


def to_arrow(frame: pl.DataFrame, declared: pa.Schema) -> pa.Table:
    """The columns of `declared`, found in `frame` by their names, in batches of some thousand rows."""
    wanted = polars_schema(declared)
    chosen = frame.select(pl.col(name).cast(kind) for name, kind in wanted.items())
    return pa.Table.from_batches(_batches(chosen, declared), schema=declared)


def _batches(frame: pl.DataFrame, declared: pa.Schema) -> Iterator[pa.RecordBatch]:
    for rows in frame.iter_slices(_BATCH):
        columns = [_plain(rows[field.name], field.type) for field in declared]
        yield pa.RecordBatch.from_arrays(columns, schema=declared)


def _plain(column: pl.Series, kind: pa.DataType) -> pa.Array:
    """Strings of polars have offsets of 64 bits, those of the declared type of 32; the bytes are the same."""
    made = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not pa.types.is_string(kind):
        return made
    valid, offsets, content = made.buffers()
    here = np.frombuffer(offsets, dtype=np.int64)[made.offset : made.offset + len(made) + 1]
    if valid is not None and made.offset:  # its bits would have to be shifted
        return _plain(column.rechunk().clone(), kind)
    small = pa.py_buffer(here.astype(np.int32))
    return pa.StringArray.from_buffers(len(made), small, content, valid, made.null_count)
