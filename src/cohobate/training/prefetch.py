"""One piece of work ahead of its time: done in a thread of its own while the caller does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from cohobate.core import context

T = TypeVar("T")
# After it is stopped, work may be in a call that cannot be interrupted for so long.
_PATIENCE_SECONDS = 30.0


class Prefetch(Generic[T]):
    """At most one piece of work, named by a number, is under way or waits to be taken.

    stop: called at `close` while something is under way; it makes that end soon.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._number: int | None = None
        self._future: Future[T] = Future()
        self._thread: threading.Thread | None = None

    def start(self, number: int, work: Callable[[], T]) -> None:
        """Begin `work` in a thread."""
        self._number, self._future = number, Future()
        # A daemon, so that what does not end in time does not keep the process.
        self._thread = context.thread(partial(self._do, work, self._future), f"prefetch-{number}")
        self._thread.start()

    def wait(self) -> None:
        """Block until nothing is under way. Raises what the work raised."""
        if self._number is not None:
            self._future.result()

    def take(self, number: int) -> T | None:
        """The result of the work of this number, once it is there; None if it was not begun.

        Raises what the work raised.
        """
        if self._number != number:
            return None
        self._number = None
        return self._future.result()

    def close(self) -> None:
        """Stop what is under way and drop what was not taken."""
        self._number = None
        if self._thread is not None and self._thread.is_alive():
            self._stop()
            self._thread.join(_PATIENCE_SECONDS)

    @staticmethod
    def _do(work: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
