"""The files of a curated artifact: the samples that stay, the rejected ones, and the side tables of what stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cohobate.core import schema
from cohobate.core.parquet import write_table
from cohobate.datasets.curation.filters import rates

if TYPE_CHECKING:
    from cohobate.store.artifacts import Workspace

_BATCH = 4096


def write(triples: Sequence[Path], labels: pl.DataFrame, workspace: Workspace) -> pl.DataFrame:
    """Write every file; `labels` are the `filters.reasons` of the same folders. Returns the verdicts of what stays."""
    verdicts = pl.concat(_split(triples, labels, workspace))
    staying = labels.filter(pl.col("reason").is_null())
    aggregates = rates(triples).join(
        staying.select("question_id").unique(), on="question_id", how="semi", maintain_order="left"
    )
    tables = {
        "verdicts": (verdicts, schema.VERDICTS),
        "aggregates": (aggregates, schema.AGGREGATES),
        "failures": (pl.concat(pl.read_parquet(path / "failures.parquet") for path in triples), schema.FAILURES),
    }
    for name, (rows, declared) in tables.items():
        write_table(rows, declared, workspace.path / f"{name}.parquet")
    return verdicts


def _split(triples: Sequence[Path], labels: pl.DataFrame, workspace: Workspace) -> Iterator[pl.DataFrame]:
    """triples.parquet and rejects.parquet, a batch at a time; yields each artifact's verdicts of what stays."""
    with ExitStack() as stack:

        def writer(name: str, declared: schema.Table) -> pq.ParquetWriter:
            return stack.enter_context(pq.ParquetWriter(workspace.path / name, declared.arrow, compression="zstd"))

        triples_file, rejects_file = (
            writer("triples.parquet", schema.TRIPLES),
            writer("rejects.parquet", schema.REJECTS),
        )
        for number, path in enumerate(triples):
            verdicts = pl.read_parquet(path / "verdicts.parquet")
            named = verdicts.select("sample_id", "verdict").unique("sample_id", keep="last")
            stays: list[pl.Series] = []
            for batch, rows in _batches(path, labels.filter(pl.col("artifact") == number)):
                keep = rows["reason"].is_null()
                stays.append(pl.Series(batch.column("sample_id")).filter(keep))
                if keep.any():
                    triples_file.write_table(batch.filter(keep.to_arrow()).cast(schema.TRIPLES.arrow))
                if not keep.all():
                    rejects_file.write_table(_rejected(batch, rows, named))
            if stays:
                yield verdicts.join(
                    pl.DataFrame({"sample_id": pl.concat(stays)}), on="sample_id", how="semi", maintain_order="left"
                )


def _rejected(batch: pa.Table, labels: pl.DataFrame, verdicts: pl.DataFrame) -> pa.Table:
    names = pl.DataFrame({"sample_id": pl.Series(batch.column("sample_id"))})
    verdict = names.join(verdicts, on="sample_id", how="left", maintain_order="left")["verdict"]
    out = batch.append_column("verdict", verdict.to_arrow())
    out = out.append_column("reject_reason", labels["reason"].to_arrow())
    out = out.append_column("reject_detail", labels["detail"].to_arrow())
    return out.filter(labels["reason"].is_not_null().to_arrow()).cast(schema.REJECTS.arrow)


def _batches(triples: Path, labels: pl.DataFrame) -> Iterator[tuple[pa.Table, pl.DataFrame]]:
    """Batches of the triples with their rows of `labels`."""
    start = 0
    with pq.ParquetFile(triples / "triples.parquet", pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            yield _whole(pa.Table.from_batches([batch])), labels[start : start + batch.num_rows]
            start += batch.num_rows


def _whole(rows: pa.Table) -> pa.Table:
    """The rows with the columns of schema.TRIPLES; one that an earlier version lacks is null."""
    columns = schema.TRIPLES.arrow
    missing = [name for name in columns.names if name not in rows.column_names]
    for name in missing:
        rows = rows.append_column(name, pa.nulls(rows.num_rows, columns.field(name).type))
    return rows.select(columns.names)
