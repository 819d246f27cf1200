"""The response store: every response of every teacher, for all runs, so that no response is paid twice.

    data/responses/journal-<unique>.jsonl   the responses to one writer: one line per batch, synced as it arrives
    data/responses/part-<hash>.parquet      finished journals, compacted, with checksums in part-<hash>.parquet.crc32

A batch is a transaction: a line torn by a kill is dropped, complete lines are never lost. A journal belongs to one
writer, which holds an flock on it; compaction takes only journals without a lock. A byte that was altered costs the
responses of its line or row group, is reported, and leaves the damaged file beside the others, named `.damaged-1`.

A look-up reads no texts: it gives the positions of the responses, whose rows are read in pieces, so that a run over a
million stored responses holds only a few thousand of them at a time.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cohobate.core import progress
from cohobate.core.atomic_files import storage_errors, sync_folder
from cohobate.core.schema import RESPONSES
from cohobate.core.sealed_files import move_aside, regular_files
from cohobate.store.artifacts import data_root
from cohobate.teachers.base import AT_THE_LIMIT, INTERRUPTIONS
from cohobate.teachers.claims import Claims, claims
from cohobate.teachers.response_journal import Writer, frames, is_damaged
from cohobate.teachers.response_parts import GROUP_ROWS, Parts, is_whole, locked, publish

if TYPE_CHECKING:
    import polars as pl

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

        A response that ended by itself within the limit is valid; a truncated one only under the same limit; one that
        the server broke off, as earlier versions stored it, never.
        """
        import polars as pl

        # Journals first: one that is compacted meanwhile is a part by the time the parts are listed.
        journals = pl.concat([RESPONSES.polars.to_frame(), *self._journal_frames()])
        parts = Parts.of(self.folder)
        sources = [journals.lazy().select(_LOOKUP).with_row_index("position", offset=parts.rows)]
        if parts.paths:
            scan = pl.scan_parquet(parts.paths, glob=False, row_index_name="position")
            sources.append(scan.select("position", *_LOOKUP))
        requested = pl.DataFrame({"key": keys}, schema={"key": pl.String})
        end = pl.col("finish_reason").str.to_lowercase()
        ended = ~end.is_in(AT_THE_LIMIT) & (pl.col("completion_tokens") <= max_tokens)
        valid = (ended | (pl.col("max_tokens") == max_tokens)) & ~end.is_in(INTERRUPTIONS)
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

    def claims(self) -> AbstractContextManager[Claims]:
        """The requests that this run is at; opened before the look-up that says what is missing."""
        return claims(self.folder)

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

    def _journal(self) -> IO[bytes]:
        """A new journal, locked against compaction."""
        while True:
            path = self.folder / f"journal-{secrets.token_hex(8)}.jsonl"
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # compacted away before it was locked

    def compact(self) -> None:
        """Turn the journals without a writer into Parquet parts."""
        with locked(self.folder):
            for path in regular_files(self.folder, "journal-*.jsonl"):
                with path.open("rb+") as file:
                    if _is_free(file):
                        self._compact(path)
                        if is_damaged(path):
                            progress.say(f"{path} is moved aside to {move_aside(path).name}")
                        else:
                            path.unlink()

    def _compact(self, path: Path) -> None:
        from cohobate.core.parquet import parquet_writer

        pieces = frames(path)
        first = next(pieces, None)
        part = self.folder / f"part-{path.stem.removeprefix('journal-')}.parquet"
        if first is None or is_whole(part):  # a kill came between the part and the end of the journal
            return
        new = part.with_name(f".{part.stem}.new")
        with parquet_writer(new, RESPONSES, GROUP_ROWS) as write:
            write(first)
            for frame in pieces:
                write(frame)
        publish(new, part)
        sync_folder(self.folder)

    def _journal_frames(self) -> Iterator[pl.DataFrame]:
        for path in regular_files(self.folder, "journal-*.jsonl"):
            yield from frames(path)


@dataclass(frozen=True)
class StoredResponses:
    """The responses to a series of keys. positions: one per key, null where there is no response."""

    positions: pl.Series
    parts: Parts
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


def _is_free(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
