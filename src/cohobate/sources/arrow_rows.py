"""Rows of Arrow tables, a piece at a time: bounded in memory, each value as it was meant.

polars makes Python values of a column several times as fast as Arrow does, but ends the process at types and values
that it does not know: it gets only those that it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from cohobate.core.errors import QuestionsError
from cohobate.sources.base import LONGEST_ROW, Row

# Bytes of decoded values at a time, and rows.
PIECE = 32 << 20
BATCH = 4096
_INTERVAL = pa.month_day_nano_interval().id


def readable(schema: pa.Schema) -> list[str]:
    """The columns that hold no bytes: images and sounds are of no use here, and take much memory."""
    return [field.name for field in schema if not _has(field.type, _is_bytes)]


def rows(batch: pa.RecordBatch | pa.Table, first: int, name: str) -> Iterator[Row]:
    """The rows of a batch, whose first has the number `first` in messages; `name` is the table's.

    Strings may be dictionaries: they are unpacked a piece at a time. Raises QuestionsError naming the row and the
    column of a value that cannot be read.
    """
    for start, piece in _pieces(batch, 0, batch.num_rows):
        if piece.num_rows == 1 and _decoded_bytes(piece) > LONGEST_ROW:
            raise QuestionsError(f"{name} row {first + start} has more than {LONGEST_ROW >> 20} MiB; drop it")
        try:
            columns = [_exact(column) for column in piece.columns]
            exact = pa.Table.from_arrays(columns, names=piece.column_names)
            exact.validate(full=True)
            values = list(_rows(exact))
        except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, OverflowError, NotImplementedError) as error:
            raise _refusal(piece, first + start, name, error) from None
        yield from values


def _pieces(batch: pa.RecordBatch | pa.Table, start: int, count: int) -> Iterator[tuple[int, pa.Table]]:
    """(row, rows from there) such that each has at most PIECE bytes, or a single row."""
    part = batch.slice(start, count)
    if count <= 1 or _decoded_bytes(part) <= PIECE:
        if count:
            yield start, pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part
        return
    half = count // 2
    yield from _pieces(batch, start, half)
    yield from _pieces(batch, start + half, count - half)


def _decoded_bytes(table: pa.RecordBatch | pa.Table) -> int:
    return sum(
        _array_bytes(chunk)
        for column in table.columns
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    )


def _array_bytes(array: pa.Array) -> int:
    """Bytes of the values, dictionaries unpacked."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(pc.cast(lengths, pa.int64()).take(array.indices)).as_py() or 0)
    if not _has(kind, pa.types.is_dictionary):
        return int(array.nbytes)
    if isinstance(array, pa.StructArray):
        return sum(map(_array_bytes, array.flatten()))
    if isinstance(array, pa.MapArray):
        return _array_bytes(array.keys) + _array_bytes(array.items)
    return int(_array_bytes(array.flatten()))


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionaries and extension types, and floats of 32 bits by their shortest decimal form.

    0.1 of 32 bits is 0.100000001490116 in 64: nobody wrote that.
    """
    kind = column.type
    if kind.num_fields and _has(kind, pa.types.is_dictionary):
        # A cast of a part of a list unpacks the items of all of it.
        column = column.take(pa.array(range(len(column))))
    if _has(kind, pa.types.is_float32):
        column = column.cast(_replaced(kind, {pa.float32(): pa.string()}))
    plain = _replaced(kind, {pa.float32(): pa.float64(), pa.float16(): pa.float64()})
    return column if column.type == plain else column.cast(plain)


def _replaced(kind: pa.DataType, types: dict[pa.DataType, pa.DataType]) -> pa.DataType:
    """The type with others in place of `types`, at any depth; dictionaries and extensions are the types inside."""
    if isinstance(kind, pa.BaseExtensionType):
        return _replaced(kind.storage_type, types)
    if pa.types.is_dictionary(kind):
        return _replaced(kind.value_type, types)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_replaced(field.type, types)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_replaced(kind.key_type, types), _replaced(kind.item_type, types))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_replaced(kind.value_type, types)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_replaced(kind.value_type, types)))
    return types.get(kind, kind)


def _rows(table: pa.Table) -> Iterator[Row]:
    others = [field.name for field in table.schema if not _is_plain(field.type)]
    values: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in others}
    names = table.column_names
    frame = pl.from_arrow(table.drop_columns(others))
    assert isinstance(frame, pl.DataFrame)
    if not others:
        yield from frame.iter_rows(named=True)
        return
    plain = frame.iter_rows(named=True) if frame.width else iter([{}] * table.num_rows)
    for index, row in enumerate(plain):
        yield {name: values[name][index] if name in values else row[name] for name in names}


def _is_plain(kind: pa.DataType) -> bool:
    """Whether polars knows the type, at any depth."""
    of = pa.types
    if kind.num_fields:
        nested = of.is_struct(kind) or of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)
        return (nested or of.is_map(kind)) and all(_is_plain(kind.field(at).type) for at in range(kind.num_fields))
    text = of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind)
    number = of.is_integer(kind) or of.is_float64(kind) or of.is_decimal128(kind)
    time = of.is_temporal(kind) and kind.id != _INTERVAL
    return bool(text or number or time or of.is_boolean(kind) or of.is_null(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    of = pa.types
    return (
        of.is_binary(kind) or of.is_large_binary(kind) or of.is_fixed_size_binary(kind) or kind == pa.binary_view()
    ) and not of.is_decimal(kind)


def _has(kind: pa.DataType, wanted: Any) -> bool:
    """Whether the type, or one inside of it, is `wanted`."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has(kind.storage_type, wanted)
    return bool(wanted(kind)) or any(_has(kind.field(at).type, wanted) for at in range(kind.num_fields))


def _refusal(table: pa.Table, first: int, name: str, error: Exception) -> QuestionsError:
    """The sentence on the first value that cannot be read: its row, its column, and why."""
    for column in table.column_names:
        for index in range(table.num_rows):
            try:
                single = table.select([column]).slice(index, 1).combine_chunks()
                single.column(0)[0].as_py()
                list(_rows(single))
            except UnicodeDecodeError:
                return QuestionsError(f"{name} row {first + index}: '{column}' is not UTF-8; write it again as UTF-8")
            except Exception as flaw:  # polars and Arrow have many kinds
                kind = table.schema.field(column).type
                reason = " ".join(str(flaw).split())[:200].rstrip(".")
                return QuestionsError(
                    f"{name} row {first + index}: '{column}' holds a {kind} that cannot be read ({reason}); correct "
                    "it, or drop the column"
                )
    return QuestionsError(f"{name} cannot be read: {' '.join(str(error).split())[:300]}; write it again")
