"""SIGINT and SIGTERM: the one module that installs their handlers and knows whether one came.

Python raises KeyboardInterrupt wherever the main thread happens to be: in an import whose author wrote a bare `except`,
in a finaliser, in a wait that turns it into an ordinary error. The run would then go on as if no interrupt had come.
Within `remembered()` an interrupt acts as before and is remembered; work that takes long calls `check()` at each of its
steps, which acts on it once more. After `end_within()` the process ends in time though all of that should fail.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Handler = Callable[[int, FrameType | None], object]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 130
_TWICE_SECONDS = 0.3  # programs that pass Ctrl+C on deliver one press twice, at once


@dataclass
class _Memory:
    """The newest interrupt of this process, and the handler that it had. Signals are a process's, not a thread's.

    teardown: whether the interpreter takes everything apart at its end.
    """

    interrupt: tuple[Handler, int] | None = None
    teardown: bool = True


_memory = _Memory()


def install(*numbers: signal.Signals) -> None:
    """From now on these signals raise KeyboardInterrupt in the main thread, also where a shell's `&` ignores them.

    What `delay` has held back comes now.
    """
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def delay() -> None:
    """Let both signals wait, also in the program that replaces this one, until `install`: it only starts till then."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def end_within(seconds: float, last_words: Callable[[], None]) -> None:
    """From now on this process ends with EXIT_CODE at most `seconds` after its first interrupt, and at another Ctrl+C.

    For where the orderly end takes longer: a library that does not return, a server that does not answer. `last_words`
    is called before that, in another thread. What stands in the store must bear an end at any moment, as by SIGKILL. To
    be called in the main thread.
    """
    numbers, arrivals = os.pipe()
    os.set_blocking(arrivals, False)
    # Unlike a handler, which Python calls between two steps of its own, this is heard while a library is at work.
    signal.set_wakeup_fd(arrivals, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)  # a child's signals are its own
    threading.Thread(target=_end, args=(numbers, seconds, last_words), name="interrupts", daemon=True).start()


def _forget() -> None:
    signal.set_wakeup_fd(-1)


def _end(numbers: int, seconds: float, last_words: Callable[[], None]) -> None:
    while not set(SIGNALS) & set(os.read(numbers, 64)):
        pass
    first = time.monotonic()
    while (passed := time.monotonic() - first) < seconds:
        came = select.select([numbers], [], [], seconds - passed)[0]
        # SIGTERM is no person's: Prefect sends it to its own process once more.
        if came and signal.SIGINT in os.read(numbers, 64) and time.monotonic() - first > _TWICE_SECONDS:
            break
    try:
        last_words()
    finally:
        os._exit(EXIT_CODE)


def register_end() -> None:
    """Make `skip_teardown` possible. To be called before the libraries are imported, whose exit handlers come first."""
    atexit.register(_leave)


def skip_teardown() -> None:
    """End with EXIT_CODE after the exit handlers: what the interpreter does then takes seconds with torch loaded."""
    _memory.teardown = False


def _leave() -> None:
    if not _memory.teardown:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)


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
