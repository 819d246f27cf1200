"""SIGINT and SIGTERM: the one module that installs their handlers and knows whether one came.

Python raises KeyboardInterrupt wherever the main thread happens to be: in an import whose author wrote a bare `except`,
in a finaliser, in a wait that turns it into an ordinary error. The run would then go on as if no interrupt had come.
Within `remembered()` an interrupt acts as before and is remembered; work that takes long calls `check()` at each of its
steps, which acts on it once more.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Memory:
    """The newest interrupt of this process, and the handler that it had. Signals are a process's, not a thread's."""

    interrupt: tuple[Handler, int] | None = None


_memory = _Memory()


def install(*numbers: signal.Signals) -> None:
    """From now on these signals raise KeyboardInterrupt in the main thread, also where a shell's `&` ignores them."""
    for number in numbers:
        signal.signal(number, signal.default_int_handler)


def ignore() -> None:
    """From now on neither signal has an effect: for a clean-up that a second Ctrl+C must not cut short."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def remembered() -> Iterator[None]:
    """SIGINT and SIGTERM keep their handlers within the block, and are remembered (in the main thread)."""
    if not _in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _memory.interrupt = None
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, _remember(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def received() -> bool:
    """Whether an interrupt came since the block of `remembered` began."""
    return _memory.interrupt is not None


def check() -> None:
    """Do again what the interrupt should have done, if one came and the work still goes on (in the main thread)."""
    if _memory.interrupt is not None and _in_main_thread():
        handler, number = _memory.interrupt
        handler(number, None)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _remember(handler: Handler) -> Handler:
    def remember(number: int, frame: FrameType | None) -> None:
        _memory.interrupt = handler, number
        handler(number, frame)

    return remember
