"""An interrupt that somebody's bare `except` swallowed still ends the work."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

import pytest

from cohobate.core import interrupts
from cohobate.core.progress import bar


class Stopped(BaseException):
    pass


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, stop)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_a_swallowed_interrupt_ends_the_work_at_its_next_step(number: int, error: type[BaseException]) -> None:
    with interrupts.remembered():
        with bar("work", 3, "steps") as it:
            it.advance()
            with suppress(error):  # the bare except of a library
                os.kill(os.getpid(), number)
            with pytest.raises(error):
                it.advance()
        assert interrupts.asked()


def test_handlers_are_as_before_and_nothing_is_carried_to_the_next_run() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.remembered(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with interrupts.remembered():
        assert not interrupts.asked()
        interrupts.check()
