"""Parts of the response store: Parquet files with block checksums beside them.

A part in which a byte was altered, or of which the end is gone, is replaced by one with the row groups that are whole;
the damaged file is moved aside, and the responses of the others are asked for again where they are needed. A part of
an earlier version, without checksums, is read once to see that it can be, and gets them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cohobate.core import progress
from cohobate.core.atomic_files import storage_errors
from cohobate.core.block_checksums import BLOCK, BlockChecksums, checksums_path, read_checksums, write_checksums
from cohobate.core.errors import DamagedFileError
from cohobate.core.locks import exclusive
from cohobate.core.schema import RESPONSES
from cohobate.core.sealed_files import move_aside, regular_files
from cohobate.teachers.response_journal import READ_ROWS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.parquet as pq

# Rows that a flipped bit costs; of long responses, some megabytes.
GROUP_ROWS = 1 << 10
_LOCK = ".compact.lock"


@dataclass(frozen=True)
class Parts:
    """The whole parts of a folder. starts: the number of rows before each, and last the number of all rows."""

    paths: list[Path]
    starts: list[int]

    @classmethod
    def of(cls, folder: Path) -> Parts:
        """The parts of `folder`, once the damaged ones are replaced."""
        import polars as pl

        while damaged := [path for path in _listed(folder) if not _is_whole(path)]:
            with storage_errors(folder.parent), locked(folder):
                for path in damaged:
                    _mend(path)
        paths, starts = _listed(folder), [0]
        for path in paths:
            starts.append(starts[-1] + pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        return cls(paths, starts)

    @property
    def rows(self) -> int:
        return self.starts[-1]

    def read(self, positions: pl.Series) -> Iterator[pl.DataFrame]:
        """The rows at these ascending positions. Raises DamagedFileError for a part that was altered since `of`."""
        for path, start, end in zip(self.paths, self.starts, self.starts[1:], strict=False):
            within = positions[positions.search_sorted(start) : positions.search_sorted(end)]
            if len(within):
                if not path.exists() or not _is_whole(path):
                    raise DamagedFileError(f"{path} was altered or taken away while it was read; run again")
                yield from _read_part(path, within - start)


def locked(folder: Path) -> AbstractContextManager[None]:
    """The lock under which parts are made and moved."""
    return exclusive(folder / _LOCK, "the response store")


def publish(new: Path, part: Path) -> None:
    """Rename the Parquet file `new` to `part`, its checksums first."""
    write_checksums(part, new)
    new.rename(part)


def is_whole(part: Path) -> bool:
    """Whether the part is there, and as its checksums say."""
    return part.exists() and checksums_path(part).exists() and _is_whole(part)


def _listed(folder: Path) -> list[Path]:
    return regular_files(folder, "part-*.parquet")


def _read_part(path: Path, positions: pl.Series) -> Iterator[pl.DataFrame]:
    """The rows at these positions of a part, some thousand at a time; longer gaps between them are not read."""
    import polars as pl

    part = pl.scan_parquet(path, glob=False)
    while len(positions):
        start = positions[0]
        near = positions[: positions.search_sorted(start + READ_ROWS)]
        yield part.slice(start, near[-1] - start + 1).collect()[near - start]
        positions = positions[len(near) :]


def _is_whole(path: Path) -> bool:
    """Whether the part is as its checksums say. Without them it is not, until it has been read once."""
    try:
        state = path.stat()
        return _is_unaltered(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except FileNotFoundError:  # moved aside by another process meanwhile
        return True
    except OSError:
        return False


@cache
def _is_unaltered(path: Path, size: int, mtime: int, inode: int) -> bool:
    """The same for one state of the file, which is read once by each process."""
    try:
        checksums = read_checksums(path)
    except DamagedFileError:
        return False
    return checksums is not None and not checksums.damaged_blocks(path)


def _mend(path: Path) -> None:
    """Give the part checksums if it has none, else replace it by what is whole of it."""
    if not path.exists():  # another process did it while we waited
        return
    try:
        checksums = read_checksums(path)
    except DamagedFileError as error:
        progress.say(f"{error}; {path.name} is read without them, and they are made again")
        checksums = None
    if checksums is None and _can_be_read(path):
        write_checksums(path, path)
    elif checksums is None or checksums.damaged_blocks(path):
        _replace(path, checksums)
    _is_unaltered.cache_clear()


def _can_be_read(path: Path) -> bool:
    import polars as pl

    try:
        part = pl.scan_parquet(path, glob=False)
        if not RESPONSES.polars.items() <= part.collect_schema().items():
            return False
        for start in range(0, part.select(pl.len()).collect().item(), READ_ROWS):
            part.slice(start, READ_ROWS).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        return False
    return True


def _replace(path: Path, checksums: BlockChecksums | None) -> None:
    """A part of the row groups that are whole, in place of a damaged one, which is moved aside."""
    rescued, rows = _rescue(path, checksums) if checksums else (0, None)
    aside = move_aside(path)
    with suppress(FileNotFoundError):
        checksums_path(path).rename(checksums_path(aside))
    lost = "its responses are" if rows is None else f"{rows - rescued:,} of its {rows:,} responses are"
    progress.say(f"{path} was altered and is moved aside; {lost} asked for again where they are needed")


def _rescue(path: Path, checksums: BlockChecksums) -> tuple[int, int | None]:
    """Write the whole row groups of a damaged part beside it; returns their rows, and those of all."""
    import polars as pl
    import pyarrow.parquet as pq

    from cohobate.core.parquet import parquet_writer

    copy, rescued = path.with_name(f".{path.stem}.copy"), path.with_name(f"{path.stem}-rescued.parquet")
    damaged = set(checksums.damaged_blocks(path))
    try:
        _with_footer(path, checksums, copy)
        with pq.ParquetFile(copy, pre_buffer=False) as file:
            groups = [number for number in range(file.num_row_groups) if not damaged & _blocks(file, number)]
            rows = sum(file.metadata.row_group(number).num_rows for number in groups)
            if rows and not is_whole(rescued):
                new = path.with_name(f".{rescued.stem}.new")
                with parquet_writer(new, RESPONSES, GROUP_ROWS) as write:
                    for number in groups:
                        write(pl.DataFrame(pl.from_arrow(file.read_row_group(number))))
                publish(new, rescued)
            return rows, file.metadata.num_rows
    except Exception:  # of any kind: what is left of the file cannot be read
        return 0, None
    finally:
        copy.unlink(missing_ok=True)


def _with_footer(path: Path, checksums: BlockChecksums, copy: Path) -> None:
    """A copy of a part with the footer that it was written with, and zeros where its end is gone."""
    shutil.copyfile(path, copy)
    with copy.open("rb+") as file:
        file.truncate(checksums.size)
        file.seek(checksums.size - len(checksums.footer))
        file.write(checksums.footer)


def _blocks(file: pq.ParquetFile, number: int) -> set[int]:
    """The numbers of the blocks in which a row group lies."""
    group, blocks = file.metadata.row_group(number), set[int]()
    for index in range(group.num_columns):
        column = group.column(index)
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        blocks.update(range(start // BLOCK, (start + column.total_compressed_size - 1) // BLOCK + 1))
    return blocks
