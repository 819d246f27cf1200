"""The files that the process opens, as the interpreter itself tells: to count them, or to be a disk that is slow."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_watchers: list[Callable[[str], None]] = []


@contextmanager
def watching(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` with each path before it is opened, in the thread that opens it."""
    _listen()
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@cache
def _listen() -> None:
    sys.addaudithook(_tell)  # for as long as the process lives


def _tell(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watchers:
        for watcher in list(_watchers):
            watcher(str(arguments[0]))
