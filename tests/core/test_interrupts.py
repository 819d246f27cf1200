"""An interrupt that somebody's bare `except` swallowed still ends the work."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from cohobate.core import interrupts
from cohobate.core.progress import bar
from tests.support.source_tree import modules

ROOT = Path(__file__).parents[2]
ALL = modules({ROOT / "src" / "cohobate": ROOT / "src", ROOT / "tasks": ROOT, ROOT / "flows": ROOT})


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
        interrupts.check()
        assert not interrupts.received()
        with suppress(error):  # the bare except of a library
            os.kill(os.getpid(), number)
        with pytest.raises(error):
            interrupts.check()
        assert interrupts.received()


def test_a_progress_bar_only_shows() -> None:
    with interrupts.remembered(), bar("work", 3, "steps") as it:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        it.advance()
        assert it.done == 1


def test_handlers_are_as_before_and_nothing_is_carried_to_the_next_run() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.remembered(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with interrupts.remembered():
        assert not interrupts.received()
        interrupts.check()


def test_a_program_that_a_shell_made_deaf_is_interrupted_again() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.install(*interrupts.SIGNALS)
    assert set(interrupts.SIGNALS) == {signal.SIGINT, signal.SIGTERM}
    for number in interrupts.SIGNALS:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_clean_up_can_ignore_both_signals() -> None:
    interrupts.ignore()
    for number in interrupts.SIGNALS:
        os.kill(os.getpid(), number)


def test_no_other_module_installs_a_handler() -> None:
    """But for the timers of a worker that runs a verifier."""
    installing = {name for name, module in ALL.items() if "signal.signal(" in module.path.read_text(encoding="utf-8")}
    assert installing == {"cohobate.core.interrupts", "cohobate.evaluation.verifiers.worker"}
