"""Claims: the requests that each process has under way, so that two runs that need the same response wait for one.

    data/responses/.claims-<process>-<unique>

A record has 9 bytes: a hash of the request's key, and whether it was claimed or released.

A claim is a lease whose heartbeat is the kernel's: the process holds an flock on its file, which is gone when the
process is, however it ended; no clock is compared. Within the lock `.claims.lock` a process reads what the others have
claimed, and claims the rest. A request is released with its outcome, a response only when it is stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cohobate.core import interrupts, progress
from cohobate.core.atomic_files import storage_errors
from cohobate.core.sealed_files import regular_files

_RECORD = struct.Struct("<Q?")
_POLL_SECONDS = 0.2
_REMIND_SECONDS = 300.0  # between two lines about one that lasts


class Claims:
    """The claims of this run beside those of others, from the moment on at which it was opened.

    What others had claimed and ended before is in the store, or was never answered: a look-up after the opening says
    which.
    """

    def __init__(self, folder: Path, path: Path, descriptor: int, others: dict[Path, _Other]) -> None:
        self.folder, self.path, self.descriptor = folder, path, descriptor
        self._others = others

    def take(self, keys: Sequence[str], *, again: bool = False) -> list[bool]:
        """Claim what no other run has claimed; returns for each key whether this run is to ask for it.

        again: what others have released is free too: it is stored, or they failed to get it.
        """
        hashes = [_hash(key) for key in keys]
        with _locked(self.folder):
            self._read_others()
            taken = [other.in_flight if again else other.claimed for other in self._others.values()]
            free = [not any(number in numbers for numbers in taken) for number in hashes]
            self._append([number for number, own in zip(hashes, free, strict=True) if own], claimed=True)
        return free

    def release(self, keys: Sequence[str]) -> None:
        """The requests have their outcomes, and their responses are stored."""
        self._append([_hash(key) for key in keys], claimed=False)

    def wait(self, keys: Sequence[str]) -> None:
        """Block until no other run is at one of these requests. Raises what an interrupt raises.

        A process that is paused keeps its claims: it may go on, and the reply may be under way.
        """
        hashes, next_line = {_hash(key) for key in keys}, 0.0
        while True:
            with _locked(self.folder):
                self._read_others()
            at_work = {path: len(hashes & other.in_flight) for path, other in self._others.items()}
            at_work = {path: count for path, count in at_work.items() if count}
            if not at_work:
                return
            if time.monotonic() >= next_line:
                processes = ", ".join(path.name.split("-")[1] for path in at_work)
                progress.say(
                    f"process {processes} is at {sum(at_work.values())} of the same requests; waiting for it "
                    "(were it ended, this run would send them)"
                )
                next_line = time.monotonic() + _REMIND_SECONDS
            time.sleep(_POLL_SECONDS)
            interrupts.check()

    def _append(self, hashes: Sequence[int], *, claimed: bool) -> None:
        if hashes:
            os.write(self.descriptor, b"".join(_RECORD.pack(number, claimed) for number in hashes))

    def _read_others(self) -> None:
        for path in _files(self.folder):
            if path != self.path:
                self._others.setdefault(path, _Other()).read(path)


@dataclass
class _Other:
    """The records of another process that have been read: all that it has claimed, and what of it is not released."""

    offset: int = 0
    claimed: set[int] = field(default_factory=set)
    in_flight: set[int] = field(default_factory=set)
    ended: bool = False

    def read(self, path: Path) -> None:
        """Read the records that were added, and whether the process is still there."""
        if self.ended:
            return
        self.ended = not _is_alive(path)
        with path.open("rb") as file:
            file.seek(self.offset)
            content = file.read()
        content = content[: len(content) // _RECORD.size * _RECORD.size]
        self.offset += len(content)
        for number, claimed in _RECORD.iter_unpack(content):
            (self.in_flight.add if claimed else self.in_flight.discard)(number)
            if claimed:
                self.claimed.add(number)
        if self.ended:
            self.in_flight.clear()


@contextmanager
def claims(folder: Path) -> Iterator[Claims]:
    """The claims of this run in the response store `folder`; they end with the block, or with the process."""
    with storage_errors(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".claims-{os.getpid()}-{secrets.token_hex(8)}"
        with _locked(folder):
            _sweep(folder)
            # Of those that have ended nothing is to come; the others are read from their beginning.
            others = {each: _Other(ended=True) for each in _files(folder) if not _is_alive(each)}
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield Claims(folder, path, descriptor, others)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked process may hold the file open, and so the lock
        os.close(descriptor)
        with suppress(OSError), _locked(folder):
            _sweep(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else reads or adds claims within the block, which takes milliseconds."""
    descriptor = os.open(folder / ".claims.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Delete the files of processes that have ended, unless another may have to read them."""
    files = _files(folder)
    if not any(map(_is_alive, files)):
        for path in files:
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return regular_files(folder, ".claims-*")


def _is_alive(path: Path) -> bool:
    """Whether the process whose claims these are is there."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
