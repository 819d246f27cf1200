"""Files of a build with their sha256 beside them, so that one that was altered is made again.

NAME.sha256    as sha256sum writes it, before NAME is in its place
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cohobate.core import progress
from cohobate.core.atomic_files import ROW_GROUP, replacing
from cohobate.core.fingerprint import hash_file

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def replacing_sealed(path: Path) -> Iterator[Path]:
    """As `atomic_files.replacing`, with the checksum of what was written."""
    with replacing(path) as temporary:
        yield temporary
        with replacing(_checksum(path)) as beside:
            beside.write_text(f"{hash_file(temporary)}  {path.name}\n", encoding="utf-8")


def write_parquet_sealed(table: pa.Table, path: Path) -> None:
    """`table` as zstd-compressed Parquet, with its checksum."""
    import pyarrow.parquet as pq

    with replacing_sealed(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def is_whole(path: Path) -> bool:
    """Whether the file is there as it was written. One that is not is reported, and moved aside.

    A file without a checksum was written by an earlier version, and is taken as it is.
    """
    if not path.exists():
        return False
    try:
        if not _checksum(path).exists() or _checksum(path).read_bytes().split()[:1] == [hash_file(path).encode()]:
            return True
    except OSError:  # a sector of the disk cannot be read, or a folder is in its place
        pass
    progress.say(f"{path} was altered after it was written; it is moved aside, and what it held is made again")
    move_aside(path)
    return False


def remove(path: Path) -> None:
    """Delete the file, if it is there, and its checksum."""
    path.unlink(missing_ok=True)
    _checksum(path).unlink(missing_ok=True)


def move_aside(path: Path) -> Path:
    """Rename a damaged file or folder to its name with `.damaged-1`, or the next number that is free."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with suppress(FileNotFoundError):  # another process did it
        path.rename(target)
    _checksum(path).unlink(missing_ok=True)
    return target


def regular_files(folder: Path, pattern: str) -> list[Path]:
    """The files of `folder` whose names fit `pattern`, in order; a folder or a pipe in the place of one is reported."""
    paths = sorted(folder.glob(pattern))
    for path in paths:
        if not path.is_file() and path.is_symlink() | path.exists():  # else deleted since it was listed
            _say_once(f"{path} is no file, and is passed over")
    return [path for path in paths if path.is_file()]


@cache
def _say_once(line: str) -> None:
    progress.say(line)


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
