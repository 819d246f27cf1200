"""Files that appear complete or not at all: write beside, sync, rename."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.core.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

_NEARLY_FULL = 8_000_000  # bytes
# Rows; of long responses, some tens of megabytes.
ROW_GROUP = 1 << 14


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; it replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling of `folder` to fill; it replaces `folder` when the block ends without an error.

    An old folder is deleted only after the new one is in its place, and with it what killed processes left beside.
    """
    folder = folder.resolve()  # of "." and of a link, the folder itself is replaced
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
        sync_folder(folder.parent)
        for path in left_behind(folder.parent, folder.name):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def left_behind(parent: Path, name: str) -> list[Path]:
    """The temporary files and folders in `parent` of processes that were killed while they replaced `name`."""
    form = re.compile(rf"\.{re.escape(name)}\.(\d{{1,9}})\.(tmp|old)")
    matches = ((path, form.fullmatch(path.name)) for path in parent.iterdir())
    return [path for path, match in matches if match and not _is_running(int(match[1]))]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed processes below `folder`, where no other process may be writing."""
    for suffix in ("tmp", "old"):
        for path in list(folder.rglob(f".*.{suffix}")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_json_atomic(path: Path, value: Any) -> None:
    """`value` as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_parquet_atomic(table: pa.Table, path: Path) -> None:
    """`table` as zstd-compressed Parquet, in row groups small enough to be streamed."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def read_json(path: Path) -> Any:
    """The parsed file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sync_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries (renames, new files) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync_file` and `sync_folder` for everything below `folder`."""
    for path in folder.rglob("*"):
        (sync_folder if path.is_dir() else sync_file)(path)
    sync_folder(folder)


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Raise StoreError with one sentence for a data folder that is full or cannot be written."""
    try:
        yield
    except OSError as error:
        inside = error.filename is None or str(error.filename).startswith(str(root))
        reason = _reason(error.errno, root)
        if reason is None or not inside:
            raise
        raise StoreError(f"the data folder {root} {reason}; what is finished is kept") from error
    except Exception as error:
        # torch, safetensors and polars wrap the system's message in errors of their own.
        if not _is_full(root, str(error)):
            raise
        raise StoreError(f"the data folder {root} {_reason(errno.ENOSPC, root)}; what is finished is kept") from error


def _reason(number: int | None, root: Path) -> str | None:
    elsewhere = "set COHOBATE_DATA to a folder you may write to"
    reasons = {
        errno.ENOSPC: "is full; free some space and run again",
        errno.EDQUOT: "is over its quota; free some space and run again",
        errno.EROFS: f"is on a read-only file system; {elsewhere}",
        errno.EACCES: f"cannot be written; {elsewhere}",
        errno.EPERM: f"cannot be written; {elsewhere}",
        errno.ENOTDIR: f"is not a folder; {elsewhere}",
        errno.EEXIST: f"is not a folder; {elsewhere}",
    }
    if not root.exists():  # some file systems (/proc) answer mkdir with "no such file"
        reasons[errno.ENOENT] = f"cannot be made; {elsewhere}"
    return reasons.get(number or 0)


def _is_full(root: Path, message: str) -> bool:
    if "No space left on device" in message or "os error 28" in message:
        return True
    # The message of torch.save is only "failed writing file".
    return "writ" in message and root.exists() and shutil.disk_usage(root).free < _NEARLY_FULL
