"""An interrupt that somebody's bare `except` swallowed still ends the work."""

import os
import signal
import subprocess
import sys
import time
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


PROGRAM = """
import signal, sys, time
from cohobate.core import interrupts
interrupts.end_within(float(sys.argv[1]), lambda: print("last words", flush=True))
interrupts.install(signal.SIGTERM)
print("ready", flush=True)
try:
    exec(sys.argv[2])
except BaseException:
    sys.exit(7)
"""
# No exception ends these: the first never returns to Python, the second has handlers of its own.
STUCK = {
    "a library": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)",
    "a handler": "[signal.signal(number, lambda *_: None) for number in interrupts.SIGNALS]\nwhile True: time.sleep(9)",
}


def started(seconds: float, work: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds), work], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


@pytest.mark.serves
@pytest.mark.parametrize("work", STUCK.values(), ids=STUCK.keys())
@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_process_ends_in_time_whatever_it_does(number: signal.Signals, work: str) -> None:
    process = started(1.0, work)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == interrupts.EXIT_CODE
    assert 0.9 < time.monotonic() - began < 4
    assert process.stdout and process.stdout.readline() == "last words\n"


@pytest.mark.serves
def test_a_second_ctrl_c_ends_it_at_once_but_not_one_that_was_delivered_twice() -> None:
    process = started(30.0, STUCK["a handler"])
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == interrupts.EXIT_CODE and time.monotonic() - began < 10


@pytest.mark.serves
def test_a_process_that_ends_by_itself_does_so_as_it_wants() -> None:
    process = started(5.0, "time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.wait(4) == 7
    assert process.stdout and process.stdout.read() == ""


@pytest.mark.serves
def test_an_interrupt_during_the_start_comes_when_the_program_is_ready() -> None:
    """Also where the process becomes another program meanwhile."""
    second = (
        "import os, time; from cohobate.core import interrupts\n"
        "os.kill(os.getpid(), 2); print('started', flush=True)\n"
        "try: interrupts.install()\nexcept KeyboardInterrupt: print('interrupted')"
    )
    first = (
        "import os, sys; from cohobate.core import interrupts\n"
        "interrupts.delay(); os.kill(os.getpid(), 2); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    result = subprocess.run([sys.executable, "-c", first, second], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "started\ninterrupted\n"), result.stderr
