"""The program of one verification worker: `python -m cohobate.evaluation.verifiers.worker NAME SECONDS WALL_SECONDS`.

It reads one line of JSON per case and writes one line of JSON: first `["ready", null]` or `["refused", sentence]`, then
`[label, reason]` per case. Before each case a timer is set with which the kernel ends this process when the case has
used up its time; that works inside C code too, and when the pool is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from cohobate.evaluation.verifiers.verdict import FAILED, Verdict

# A tower of powers would fill the machine before its time is up.
_MATH_BYTES = 2 << 30


def main(name: str, seconds: float, wall_seconds: float) -> None:
    """Judge the cases of stdin until it ends."""
    # Replies go to the original stdout; a function's own prints go to stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)

    def reply(first: str, second: str | None) -> None:
        replies.write(json.dumps([first, second]) + "\n")
        replies.flush()

    try:
        decide = _load(name)
    except Exception as error:
        reply("refused", _sentence(name, error))
        return
    reply("ready", None)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)
        try:
            verdict = decide(json.loads(line))
        except MemoryError:
            verdict = Verdict("undecided", "out of memory")
        except Exception as error:
            verdict = Verdict("undecided", f"{FAILED}: {type(error).__name__}: {error}"[:300])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(verdict.label, verdict.reason)


def _load(name: str) -> Callable[[list[str | None]], Verdict]:
    if name != "math":
        return _function(name)
    import math_verify

    from cohobate.evaluation.verifiers.symbolic import compare

    assert math_verify.parse  # loaded now, so that the first case does not pay for it
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):  # not every system can limit it
        resource.setrlimit(resource.RLIMIT_AS, (_MATH_BYTES, _MATH_BYTES))
    return lambda payload: compare(payload[0] or "", payload[1] or "")


def _function(name: str) -> Callable[[list[str | None]], Verdict]:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{attribute} is no function")

    def decide(payload: list[str | None]) -> Verdict:
        answer, gold, question, response = payload
        return _as_verdict(function(answer=answer, gold=gold, question=question, response=response))

    return decide


def _as_verdict(result: Any) -> Verdict:
    """A verdict from True, False or None, alone or as the first of a pair with the reason."""
    truth, reason = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if truth is None:
        return Verdict("undecided", str(reason or "undecided by the verifier"))
    if not isinstance(truth, bool):
        raise TypeError(f"it gave {truth!r}, not True, False or None"[:200])
    return Verdict("correct") if truth else Verdict("incorrect", str(reason or "another answer"))


def _sentence(name: str, error: Exception) -> str:
    return f"{name} cannot be loaded: {type(error).__name__}: {error}".replace("\n", " ")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
