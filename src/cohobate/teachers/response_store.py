"""The response store: every response of every teacher, kept for all runs, so that nothing is paid twice.

    data/responses/journal-<unique>.jsonl   what one writer has received: a line a batch, synced as it arrives
    data/responses/part-<hash>.parquet      finished journals, compacted

A batch is a transaction: a line that a kill has torn is dropped, whole lines are never lost. Journals belong to one
writer, which holds an flock on its own; compaction takes only journals that nobody holds.

A look-up reads no texts: it gives the places of the responses, whose rows are read in pieces, so that a run over a
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
_FACTS = ["max_tokens", "paid_by", "engine_version", "created_at"]
_values = attrgetter(*_COLUMNS)
# Rows of a journal or a part that are in memory at a time; of long responses, some tens of megabytes.
READ_ROWS = 1 << 14
_LOOKED_AT = ["key", "finish_reason", "completion_tokens", "max_tokens", "created_at"]


class ResponseStore:
    """All responses below one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = data_root() / "responses" if folder is None else folder

    def find(self, keys: Sequence[str], max_tokens: int) -> pl.DataFrame:
        """The stored responses (schema.RESPONSES) that answer `keys` under the limit `max_tokens`, one a key."""
        return self.locate(list(dict.fromkeys(keys)), max_tokens).read()

    def locate(self, keys: Sequence[str] | pl.Series, max_tokens: int) -> Found:
        """Where the responses to `keys` lie; of several to a key, the first that was received.

        A response that ended by itself within the limit is valid; a truncated one only under the same limit.
        """
        import polars as pl

        # Journals first: one that is compacted meanwhile is a part by the time the parts are listed.
        journals = pl.concat([RESPONSES.polars.to_frame(), *self._journal_frames()])
        parts = _Parts.of(sorted(self.folder.glob("part-*.parquet")))
        sources = [journals.lazy().select(_LOOKED_AT).with_row_index("row", offset=parts.rows)]
        if parts.paths:
            scanned = pl.scan_parquet(parts.paths, glob=False, row_index_name="row")
            sources.append(scanned.select("row", *_LOOKED_AT))
        wanted = pl.DataFrame({"key": keys}, schema={"key": pl.String})
        ended = (pl.col("finish_reason") != "length") & (pl.col("completion_tokens") <= max_tokens)
        usable = ended | (pl.col("max_tokens") == max_tokens)
        found = (
            pl.concat(sources)
            .filter(usable)
            .join(wanted.lazy(), on="key", how="semi")
            .select("key", "row", "created_at")
            .collect()
        )
        first = found.sort("created_at", "row").unique("key", keep="first", maintain_order=True)
        rows = wanted.join(first, on="key", how="left", maintain_order="left")["row"]
        return Found(rows, parts, journals)

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
                with path.open("rb+") as file:
                    if _free(file):
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
    """The Parquet parts; starts: the number of rows before each, and in the end of all."""

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

    def read(self, rows: pl.Series) -> Iterator[pl.DataFrame]:
        """The rows at these places, which ascend."""
        for path, start, end in zip(self.paths, self.starts, self.starts[1:], strict=False):
            here = rows[rows.search_sorted(start) : rows.search_sorted(end)]
            if len(here):
                yield from _read_part(path, here - start)


def _read_part(path: Path, rows: pl.Series) -> Iterator[pl.DataFrame]:
    """The rows at these places of a part, some thousand at a time; what lies between is not read."""
    import polars as pl

    part = pl.scan_parquet(path, glob=False)
    while len(rows):
        start = rows[0]
        here = rows[: rows.search_sorted(start + READ_ROWS)]
        yield part.slice(start, here[-1] - start + 1).collect()[here - start]
        rows = rows[len(here) :]


@dataclass(frozen=True)
class Found:
    """rows: for each key that was asked for, the place of its response; null where there is none."""

    rows: pl.Series
    parts: _Parts
    journals: pl.DataFrame

    def read(self, start: int = 0, length: int | None = None) -> pl.DataFrame:
        """The responses (columns of schema.RESPONSES) to the keys from place `start`, in the order of the keys."""
        import polars as pl

        asked = self.rows.slice(start, length).drop_nulls()
        places = asked.unique().sort()
        stored = [*self.parts.read(places)]
        late = places.filter(places >= self.parts.rows) - self.parts.rows
        found = pl.concat([*stored, self.journals[late]])
        return found[places.search_sorted(asked)]


class Writer:
    """Appends batches to one journal."""

    def __init__(self, file: IO[str], facts: dict[str, object]) -> None:
        self.file, self.facts = file, facts

    def append(self, responses: Sequence[Response]) -> None:
        """Store a batch; when this returns, no kill can take it away."""
        if not responses:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        batch = {**self.facts, "created_at": now, "rows": list(map(_values, responses))}
        self.file.write(json.dumps(batch, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _frames(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of the journal's whole lines, some thousand at a time."""
    rows: list[list[Any]] = []
    for line in _lines(path):
        batch = json.loads(line)
        same = [batch[name] for name in _FACTS]
        rows += [[*row, *same] for row in batch["rows"]]
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
    types = {name: kinds[name] for name in (*_COLUMNS, *_FACTS)}
    frame = pl.DataFrame(rows, schema={**types, "created_at": pl.String}, orient="row")
    times = pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_unit="ms")
    return frame.with_columns(times).select(pl.col(name).cast(kind) for name, kind in kinds.items())


def _free(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
