"""Stream the chosen triples into one file: batch by batch, so that memory does not grow with the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.datasets.export.formats import Format, rows
from cohobate.datasets.export.prompts import Style

# Rows read at a time: of responses of 8,000 tokens, about 30 MB.
BATCH = 1024


@dataclass
class Written:
    """The content of the file: its row count, and the schema of a row."""

    rows: int = 0
    schema: pl.Schema | None = None


def write_samples(triples: Path, chosen: pl.DataFrame, file_format: Format, style: Style, out: Path) -> Written:
    """One row for each row of `chosen` (columns row, verdict, pass_rate of an outline), in its order."""
    written = Written()
    with _sink(file_format, out, written) as write:
        for batch in _batches(triples, file_format, chosen.select("row", "verdict", "pass_rate").sort("row")):
            write(rows(file_format, batch, style))
    return written


def write_pairs(triples: Path, pairs: pl.DataFrame, file_format: Format, style: Style, out: Path) -> Written:
    """One row for each of `pairs` (columns chosen_row, rejected_row); written as soon as both sides have been read."""
    numbered = pairs.with_row_index("pair")
    sides = [
        numbered.select("pair", pl.col(f"{side}_row").alias("row"), pl.lit(verdict).alias("verdict"))
        for side, verdict in (("chosen", "correct"), ("rejected", "incorrect"))
    ]
    written, waiting = Written(), pl.DataFrame()
    with _sink(file_format, out, written) as write:
        for batch in _batches(triples, file_format, pl.concat(sides).sort("row")):
            replies = pl.concat([batch.select("pair"), rows(file_format, batch, style)], how="horizontal")
            waiting = pl.concat([waiting, replies]) if len(waiting) else replies
            complete = waiting.filter(pl.len().over("pair") == 2)
            waiting = waiting.join(complete, on="pair", how="anti", maintain_order="left")
            write(_joined(complete))
    return written


def _joined(replies: pl.DataFrame) -> pl.DataFrame:
    """Both replies of each pair in one row."""
    chosen = replies.filter(pl.col("verdict") == "correct").sort("pair")
    rejected = replies.filter(pl.col("verdict") == "incorrect").sort("pair")
    return chosen.select(
        pl.exclude("pair", "verdict", "reply", "sample_id", "question_id"),
        pl.col("reply").alias("chosen"),
        rejected["reply"].alias("rejected"),
        pl.col("sample_id").alias("chosen_id"),
        rejected["sample_id"].alias("rejected_id"),
        "question_id",
    )


def _batches(triples: Path, file_format: Format, chosen: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of the triples that `chosen` numbers (column row, in order), with the other columns of `chosen`."""
    numbers, start = chosen["row"], 0
    with pq.ParquetFile(triples / "triples.parquet", pre_buffer=False) as file:
        columns = [*file_format.reads, "sample_id", "question_id"] if file_format.reads else None
        for record_batch in file.iter_batches(batch_size=BATCH, columns=columns):
            end = start + record_batch.num_rows
            first, last = numbers.search_sorted(start), numbers.search_sorted(end)
            if last > first:
                here = chosen[first:last]
                batch = pl.DataFrame(record_batch)[(here["row"] - start).to_list()]
                if "conversation" not in batch.columns:  # of an earlier version
                    batch = batch.with_columns(pl.lit(None, pl.String).alias("conversation"))
                yield pl.concat([batch, here.drop("row")], how="horizontal")
            start = end


@contextmanager
def _sink(file_format: Format, out: Path, written: Written) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Appends frames to the file and counts them."""
    with ExitStack() as stack:
        parquet: pq.ParquetWriter | None = None
        lines = stack.enter_context(out.open("wb")) if file_format.suffix == "jsonl" else None

        def write(frame: pl.DataFrame) -> None:
            nonlocal parquet
            written.rows += len(frame)
            written.schema = frame.schema
            if lines is not None:
                frame.write_ndjson(lines)
                return
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if parquet is None:
                parquet = stack.enter_context(pq.ParquetWriter(out, _plain(table.schema), compression="zstd"))
            parquet.write_table(table.cast(_plain(table.schema)))

        yield write


def _plain(schema: pa.Schema) -> pa.Schema:
    """With ordinary strings, which every reader of Parquet knows."""
    return pa.schema([f.with_type(pa.string()) if pa.types.is_large_string(f.type) else f for f in schema])
