"""Tables come out of their files as they went in, whatever library wrote them, in one piece or several."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from cohobate.core import schema
from cohobate.core.parquet import parquet_writer, write_table

ROWS = [
    {
        "request_key": f"{number:04d}",
        "question_id": "frühstück 早餐"[: number % 12],
        "sample_index": number,
        "error_class": "Timeout",
        "status": None if number % 3 else 500 + number,
        "message": "no answer\n" * (number % 5),
        "attempts": 4,
        "last_at": datetime(2026, 1, 1, 12, 30, 15, 123_000, tzinfo=UTC),
    }
    for number in range(100)
]
FRAME = pl.DataFrame(ROWS, infer_schema_length=None)
DECLARED = {name: table for name, table in vars(schema).items() if isinstance(table, schema.Table)}


@pytest.mark.parametrize("name", DECLARED)
def test_polars_and_arrow_are_told_the_same_types(name: str) -> None:
    declared = DECLARED[name]
    assert pl.DataFrame(declared.arrow.empty_table()).schema == declared.polars
    assert declared.required <= set(declared.names) and declared.arrow.names == declared.names


@pytest.mark.parametrize("cuts", [[0, 100], [0, 1, 100], [0, 40, 41, 100]])
def test_a_table_is_the_same_in_one_piece_and_in_several(cuts: list[int], tmp_path: Path) -> None:
    path = tmp_path / "failures.parquet"
    other_columns = FRAME.select(pl.lit("x").alias("more"), *reversed(FRAME.columns))
    with parquet_writer(path, schema.FAILURES) as write:
        for start, end in pairwise(cuts):
            write(other_columns[start:end])
    assert pl.read_parquet(path).to_dicts() == ROWS
    assert pq.read_table(path).to_pylist() == ROWS
    assert pq.read_schema(path).equals(schema.FAILURES.arrow)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_table_without_pieces_has_its_columns(tmp_path: Path) -> None:
    with parquet_writer(tmp_path / "none.parquet", schema.FAILURES):
        pass
    assert pq.read_table(tmp_path / "none.parquet").equals(schema.FAILURES.arrow.empty_table())


@pytest.mark.parametrize("before", [0, 2])
def test_a_null_where_none_belongs_is_refused_and_no_file_appears(before: int, tmp_path: Path) -> None:
    broken = FRAME.with_columns(message=pl.when(pl.col("sample_index") != 7).then("message"))
    with (
        pytest.raises(ValueError, match="1 of 100 rows have no message"),
        parquet_writer(tmp_path / "failures.parquet", schema.FAILURES) as write,
    ):
        for _ in range(before):
            write(FRAME)
        write(broken)
    assert list(tmp_path.iterdir()) == []


def test_a_new_table_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "failures.parquet"
    write_table(FRAME, schema.FAILURES, path)
    write_table(FRAME[:3], schema.FAILURES, path)
    assert pl.read_parquet(path).to_dicts() == ROWS[:3]
