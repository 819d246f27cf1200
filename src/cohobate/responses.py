"""The response store: every response of every teacher, kept for all runs, so that nothing is paid twice.

    data/responses/journal-<unique>.jsonl   what one writer has received: a line a batch, synced as it arrives
    data/responses/part-<hash>.parquet      finished journals, compacted

A batch is a transaction: a line that a kill has torn is dropped, whole lines are never lost. Journals belong to one
writer, which holds an flock on its own; compaction takes only journals that nobody holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from cohobate.files import storage_errors, sync_folder, write_parquet_atomic
from cohobate.locks import exclusive
from cohobate.store import data_root
from cohobate.teachers.base import Response

if TYPE_CHECKING:
    import polars as pl

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("reasoning", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("latency_ms", pa.float64()),
        ("attempts", pa.int32()),
        ("reasoning_tokens", pa.int32()),
        ("served_model", pa.string()),
        ("max_tokens", pa.int32()),
        ("paid_by", pa.string()),
        ("engine_version", pa.string()),
        ("created_at", pa.timestamp("ms", tz="UTC")),
    ]
)


class ResponseStore:
    """All responses below one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_root() / "responses" if folder is None else folder

    def find(self, keys: Sequence[str], max_tokens: int) -> pl.DataFrame:
        """The stored responses (columns of SCHEMA) that answer `keys` under the limit `max_tokens`, one a key.

        A response that ended by itself within the limit is valid; a truncated one only under the same limit.
        """
        import polars as pl

        wanted = pl.LazyFrame({"key": list(keys)}, schema={"key": pl.String}).unique()
        # Journals first: one that is compacted meanwhile is a part by the time the parts are listed.
        frames = [_frame(rows).lazy() for rows in self._journal_rows()]
        frames += [pl.scan_parquet(path) for path in sorted(self.folder.glob("part-*.parquet"))]
        if not frames:
            return _frame([])
        ended = (pl.col("finish_reason") != "length") & (pl.col("completion_tokens") <= max_tokens)
        usable = ended | (pl.col("max_tokens") == max_tokens)
        found = pl.concat(frame.join(wanted, on="key", how="semi").filter(usable) for frame in frames)
        return found.sort("created_at").unique("key", keep="first", maintain_order=True).collect()

    @contextmanager
    def writer(self, *, paid_by: str, max_tokens: int, engine_version: str) -> Iterator[Writer]:
        """A journal for the responses of one stage; compacted when the block ends, however it ends."""
        with storage_errors(self.folder.parent):
            self.folder.mkdir(parents=True, exist_ok=True)
            facts = {"max_tokens": max_tokens, "paid_by": paid_by, "engine_version": engine_version}
            try:
                with self._journal() as file:
                    yield Writer(file, facts)
            finally:
                self.compact()

    def _journal(self) -> IO[str]:
        """A new journal that nobody else can take."""
        while True:
            path = self.folder / f"journal-{secrets.token_hex(8)}.jsonl"
            file = path.open("x", encoding="utf-8")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # compacted away before it was locked

    def compact(self) -> None:
        """Turn the journals that no writer holds into Parquet parts."""
        with exclusive(self.folder / ".compact.lock", "the response store"):
            for path in sorted(self.folder.glob("journal-*.jsonl")):
                with path.open("r+", encoding="utf-8") as file:
                    if not _free(file):
                        continue
                    rows = list(_lines(path))
                    if rows:
                        name = f"part-{path.stem.removeprefix('journal-')}.parquet"
                        write_parquet_atomic(_frame(rows).to_arrow().cast(SCHEMA), self.folder / name)
                        sync_folder(self.folder)
                    path.unlink()

    def _journal_rows(self) -> Iterator[list[dict[str, object]]]:
        for path in sorted(self.folder.glob("journal-*.jsonl")):
            rows = list(_lines(path))
            if rows:
                yield rows


class Writer:
    """Appends batches to one journal."""

    def __init__(self, file: IO[str], facts: dict[str, object]) -> None:
        self.file, self.facts = file, facts

    def append(self, responses: Sequence[Response]) -> None:
        """Store a batch; when this returns, no kill can take it away."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [{**asdict(response), **self.facts, "created_at": now} for response in responses]
        self.file.write(json.dumps(rows, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _lines(path: Path) -> Iterator[dict[str, object]]:
    """Rows of the journal's whole lines."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # compacted since it was listed: its rows are in a part now
        return
    for line in content.split(b"\n")[:-1]:
        yield from json.loads(line)


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    import polars as pl

    empty = pl.DataFrame(SCHEMA.empty_table())
    if not rows:
        return empty
    times = pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_unit="ms")
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(times)
    return frame.select(empty.columns).cast(empty.schema)


def _free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
