"""Checksums of a Parquet file, block by block, in a file beside it: altered bytes cost the row groups that they are in.

    NAME.crc32    a sealed JSON object: the file's size, the CRC-32 of each of its blocks of 4 KiB, and its footer

The footer is Parquet's own (row groups, columns, offsets), with its length and magic number: a file that was cut has
lost it, and with it every row.
"""

from __future__ import annotations

import base64
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path

from cohobate.core.errors import DamagedFileError
from cohobate.core.sealed_json import read_sealed_json, write_sealed_json

BLOCK = 4096
_CHUNK = 256 * BLOCK
_TRAILER = 8  # the footer's length in 4 bytes, and PAR1


@dataclass(frozen=True)
class BlockChecksums:
    """The size of a file in bytes, the CRC-32 of each block, the footer."""

    size: int
    blocks: tuple[int, ...]
    footer: bytes

    def damaged_blocks(self, path: Path) -> list[int]:
        """The numbers of the blocks that `path` has otherwise, or not at all."""
        try:
            now = _crc32_of_blocks(path)
        except OSError:  # a sector of the disk cannot be read
            now = []
        differing = [number for number, crc in enumerate(self.blocks) if number >= len(now) or now[number] != crc]
        if not differing and path.stat().st_size != self.size:
            return [len(self.blocks)]  # something was appended
        return differing


def checksums_path(path: Path) -> Path:
    """The place of the checksums of `path`."""
    return path.with_name(f"{path.name}.crc32")


def write_checksums(path: Path, of: Path) -> None:
    """The checksums of the Parquet file `of`, for the place that it is about to be renamed to."""
    size = of.stat().st_size
    with of.open("rb") as file:
        file.seek(size - _TRAILER)
        footer = _TRAILER + int.from_bytes(file.read(4), "little")
        file.seek(size - footer)
        footer_bytes = file.read()
    crc32 = array("I", _crc32_of_blocks(of)).tobytes()
    values = {"size": size, "block": BLOCK, "crc32": _text(crc32), "footer": _text(footer_bytes)}
    write_sealed_json(checksums_path(path), values)


def read_checksums(path: Path) -> BlockChecksums | None:
    """The checksums of `path`; None where there are none. Raises DamagedFileError where they were altered."""
    beside = checksums_path(path)
    if not beside.exists():
        return None
    values = read_sealed_json(beside)
    try:
        crc32 = array("I")
        crc32.frombytes(base64.b64decode(values["crc32"]))
        return BlockChecksums(values["size"], tuple(crc32), base64.b64decode(values["footer"]))
    except (KeyError, TypeError, ValueError):
        raise DamagedFileError(f"{beside} holds no checksums") from None


def _crc32_of_blocks(path: Path) -> list[int]:
    crc32 = []
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            view = memoryview(chunk)
            crc32 += [zlib.crc32(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK)]
    return crc32


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
