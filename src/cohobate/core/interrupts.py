"""An interrupt that a library swallowed is not lost.

Python raises KeyboardInterrupt wherever the main thread happens to be: in an import whose author wrote a bare `except`,
in a finaliser, in a wait that turns it into an ordinary error. The run would then go on as if nobody had asked it to
stop. Within `remembered()` an interrupt acts as before and is remembered; `check()` acts on it once more.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
_asked: list[tuple[Handler, int]] = []


@contextmanager
def remembered() -> Iterator[None]:
    """SIGINT and SIGTERM keep their handlers within the block, and are remembered (in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _asked.clear()
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, _remember(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """Whether an interrupt came since the block began."""
    return bool(_asked)


def check() -> None:
    """Do again what the interrupt should have done, if one came and the work still goes on."""
    if _asked and threading.current_thread() is threading.main_thread():
        handler, number = _asked[-1]
        handler(number, None)


def _remember(handler: Handler) -> Handler:
    def remember(number: int, frame: FrameType | None) -> None:
        _asked.append((handler, number))
        handler(number, frame)

    return remember
