"""The response store: every response of every teacher, for all runs, so that no response is paid twice.

    data/responses/journal-<unique>.jsonl   the responses to one writer: one line per batch, synced as it arrives
    data/responses/part-<hash>.parquet      finished journals, compacted

A batch is a transaction: a line torn by a kill is dropped, complete lines are never lost. A journal belongs to one
writer, which holds an flock on it; compaction takes only journals without a lock.

A look-up reads no texts: it gives the positions of the responses, whose rows are read in pieces, so that a run over a
million stored responses holds only a few thousand of them at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cohobate.core.atomic_files import storage_errors, sync_folder
from cohobate.core.locks import exclusive
from cohobate.core.schema import RESPONSES
from cohobate.store.artifacts import data_root
from cohobate.teachers.base import Response

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = [each.name for each in fields(Response)]
_BATCH_COLUMNS = ["max_tokens", "paid_by", "engine_version", "created_at"]
_values = attrgetter(*_COLUMNS)
# Rows of a journal or a part that are in memory at a time; of long responses, some tens of megabytes.
READ_ROWS = 1 << 14
_LOOKUP = ["key", "finish_reason", "completion_tokens", "max_tokens", "created_at"]


class ResponseStore:
    """All responses below one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_root() / "responses" if folder is None else folder

    def find(self, keys: Sequence[str], max_tokens: int) -> pl.DataFrame:
        """The stored responses (schema.RESPONSES) to `keys` under the limit `max_tokens`, one per key."""
        return self.locate(list(dict.fromkeys(keys)), max_tokens).read()

    def locate(self, keys: Sequence[str] | pl.Series, max_tokens: int) -> StoredResponses:
        """The positions of the responses to `keys`; of several to one key, of the first that was received.

        A response that ended by itself within the limit is valid; a truncated one only under the same limit.
        """
        import polars as pl

        # Journals first: one that is compacted meanwhile is a part by the time the parts are listed.
        journals = pl.concat([RESPONSES.polars.to_frame(), *self._journal_frames()])
        parts = _Parts.of(sorted(self.folder.glob("part-*.parquet")))
        sources = [journals.lazy().select(_LOOKUP).with_row_index("position", offset=parts.rows)]
        if parts.paths:
            scan = pl.scan_parquet(parts.paths, glob=False, row_index_name="position")
            sources.append(scan.select("position", *_LOOKUP))
        requested = pl.DataFrame({"key": keys}, schema={"key": pl.String})
        ended = (pl.col("finish_reason") != "length") & (pl.col("completion_tokens") <= max_tokens)
        valid = ended | (pl.col("max_tokens") == max_tokens)
        candidates = (
            pl.concat(sources)
            .filter(valid)
            .join(requested.lazy(), on="key", how="semi")
            .select("key", "position", "created_at")
            .collect()
        )
        first = candidates.sort("created_at", "position").unique("key", keep="first", maintain_order=True)
        positions = requested.join(first, on="key", how="left", maintain_order="left")["position"]
        return StoredResponses(positions, parts, journals)

    @contextmanager
    def writer(self, *, paid_by: str, max_tokens: int, engine_version: str) -> Iterator[Writer]:
        """A journal for the responses of one stage; compacted when the block ends, however it ends."""
        with storage_errors(self.folder.parent):
            self.folder.mkdir(parents=True, exist_ok=True)
            same_for_all = {"max_tokens": max_tokens, "paid_by": paid_by, "engine_version": engine_version}
            try:
                with self._journal() as file:
                    yield Writer(file, same_for_all)
            finally:
                self.compact()

    def _journal(self) -> IO[str]:
        """A new journal, locked against compaction."""
        while True:
            path = self.folder / f"journal-{secrets.token_hex(8)}.jsonl"
            file = path.open("x", encoding="utf-8")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # compacted away before it was locked

    def compact(self) -> None:
        """Turn the journals without a writer into Parquet parts."""
        with exclusive(self.folder / ".compact.lock", "the response store"):
            for path in sorted(self.folder.glob("journal-*.jsonl")):
                with path.open("rb+") as file:
                    if _is_free(file):
                        self._compact(path)
                        path.unlink()

    def _compact(self, path: Path) -> None:
        from cohobate.core.parquet import parquet_writer

        frames = _frames(path)
        first = next(frames, None)
        if first is None:
            return
        part = self.folder / f"part-{path.stem.removeprefix('journal-')}.parquet"
        with parquet_writer(part, RESPONSES) as write:
            write(first)
            for frame in frames:
                write(frame)
        sync_folder(self.folder)

    def _journal_frames(self) -> Iterator[pl.DataFrame]:
        for path in sorted(self.folder.glob("journal-*.jsonl")):
            yield from _frames(path)


@dataclass(frozen=True)
class _Parts:
    """The Parquet parts. starts: the number of rows before each, and last the number of all rows."""

    paths: list[Path]
    starts: list[int]

    @classmethod
    def of(cls, paths: list[Path]) -> _Parts:
        import polars as pl

        starts = [0]
        for path in paths:
            starts.append(starts[-1] + pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        return cls(paths, starts)

    @property
    def rows(self) -> int:
        return self.starts[-1]

    def read(self, positions: pl.Series) -> Iterator[pl.DataFrame]:
        """The rows at these ascending positions."""
        for path, start, end in zip(self.paths, self.starts, self.starts[1:], strict=False):
            within = positions[positions.search_sorted(start) : positions.search_sorted(end)]
            if len(within):
                yield from _read_part(path, within - start)


def _read_part(path: Path, positions: pl.Series) -> Iterator[pl.DataFrame]:
    """The rows at these positions of a part, some thousand at a time; longer gaps between them are not read."""
    import polars as pl

    part = pl.scan_parquet(path, glob=False)
    while len(positions):
        start = positions[0]
        near = positions[: positions.search_sorted(start + READ_ROWS)]
        yield part.slice(start, near[-1] - start + 1).collect()[near - start]
        positions = positions[len(near) :]


@dataclass(frozen=True)
class StoredResponses:
    """The responses to a series of keys. positions: one per key, null where there is no response."""

    positions: pl.Series
    parts: _Parts
    journals: pl.DataFrame

    def __len__(self) -> int:
        return self.positions.count()

    @property
    def missing(self) -> pl.Series:
        """The indices of the keys without a response."""
        return self.positions.is_null().arg_true()

    def read(self, start: int = 0, length: int | None = None) -> pl.DataFrame:
        """The responses (columns of schema.RESPONSES) to the keys from index `start`, in the order of the keys."""
        import polars as pl

        requested = self.positions.slice(start, length).drop_nulls()
        positions = requested.unique().sort()
        in_parts = [*self.parts.read(positions)]
        in_journals = positions.filter(positions >= self.parts.rows) - self.parts.rows
        rows = pl.concat([*in_parts, self.journals[in_journals]])
        return rows[positions.search_sorted(requested)]


class Writer:
    """Appends batches to one journal. same_for_all: the columns whose value every response shares."""

    def __init__(self, file: IO[str], same_for_all: dict[str, object]) -> None:
        self.file, self.same_for_all = file, same_for_all

    def append(self, responses: Sequence[Response]) -> None:
        """Store a batch; when this returns, no kill can take it away."""
        if not responses:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        batch = {**self.same_for_all, "created_at": now, "rows": list(map(_values, responses))}
        self.file.write(json.dumps(batch, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _frames(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of the journal's complete lines, some thousand at a time."""
    rows: list[list[Any]] = []
    for line in _lines(path):
        batch = json.loads(line)
        same_for_all = [batch[name] for name in _BATCH_COLUMNS]
        rows += [[*row, *same_for_all] for row in batch["rows"]]
        if len(rows) >= READ_ROWS:
            yield _frame(rows)
            rows = []
    if rows:
        yield _frame(rows)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:  # compacted since it was listed: its rows are in a part now
        return
    with file:
        for line in file:
            if line.endswith(b"\n"):  # else it was torn by a kill
                yield line


def _frame(rows: list[list[Any]]) -> pl.DataFrame:
    import polars as pl

    kinds = RESPONSES.polars
    types = {name: kinds[name] for name in (*_COLUMNS, *_BATCH_COLUMNS)}
    frame = pl.DataFrame(rows, schema={**types, "created_at": pl.String}, orient="row")
    times = pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_unit="ms")
    return frame.with_columns(times).select(pl.col(name).cast(kind) for name, kind in kinds.items())


def _is_free(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
