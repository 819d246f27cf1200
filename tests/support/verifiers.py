"""Functions that a user might give as a verifier: good, broken and hostile ones."""

import os
import signal
import time
from pathlib import Path
from typing import Any


def shouts(answer: str | None, gold: str | None, **_: Any) -> bool:
    print("what a verifier prints does no harm")
    return answer is not None and answer.upper() == (gold or "").upper()


def explains(answer: str | None, gold: str | None, question: str, response: str) -> tuple[bool | None, str]:
    """Sees everything: judges without a gold answer by what the response says."""
    if gold is None:
        return None, f"no gold for {question}"
    return "therefore" in response, "no argument"


def fails(**_: Any) -> bool:
    raise ZeroDivisionError("always")


def says_yes(**_: Any) -> str:
    return "yes"


def misbehaves(answer: str, gold: str, **_: Any) -> bool:
    """Does to its process what the answer says."""
    match answer:
        case "spin":
            while True:
                pass
        case "big":
            return bool(7 ** (10**10))  # one C call, which no Python signal handler can interrupt
        case "sleep":
            time.sleep(1000)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
    return answer == gold


def dies_once(answer: str, gold: str, **_: Any) -> bool:
    """Killed from outside the first time that it meets each third answer, as by the out-of-memory killer."""
    mark = Path(os.environ["COHOBATE_TEST_MARKS"]) / answer
    if int(answer) % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer == gold


def slow(answer: str, gold: str, **_: Any) -> bool:
    time.sleep(0.2)
    return answer == gold


missing = None
