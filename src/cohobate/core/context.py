"""The ambient context of the work: who follows its progress, what its builds acquire, which run it belongs to.

It is the caller's alone to set, and reaches the work without passing through every function. A thread has it if it was
made by `thread`; of the context a child process gets the run, through the environment.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

_RUN_ID, _FLOW_RUN_ID = "COHOBATE_RUN_ID", "COHOBATE_FLOW_RUN_ID"


class ProgressListener(Protocol):
    """It follows the work: called at the start, at each advance, and at the end of a bar, with each message, and with
    what a stage measures at a step of its own.
    """

    def start(self, label: str, total: int, unit: str) -> None: ...
    def update(self, label: str, done: int, total: int, note: str) -> None: ...
    def finish(self, label: str) -> None: ...
    def message(self, line: str) -> None: ...
    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None: ...


# Called with the id of the artifact that is to be built; the build waits until the block is entered.
Slot = Callable[[str], AbstractContextManager[None]]


def no_slot(artifact_id: str) -> AbstractContextManager[None]:
    """The slot of builds that need none."""
    return nullcontext()


@dataclass(frozen=True)
class Context:
    """slot: what a build acquires first, such as a GPU. lookup_only: the store builds nothing.

    run_id: of the run's record. flow_run_id: Prefect's. as_json: the result is printed for programs.
    """

    listeners: tuple[ProgressListener, ...] = ()
    slot: Slot = no_slot
    lookup_only: bool = False
    run_id: str | None = None
    flow_run_id: str | None = None
    as_json: bool = False


_context: contextvars.ContextVar[Context] = contextvars.ContextVar("cohobate")


def current() -> Context:
    """The context of this thread; in a child process the run that the environment names."""
    return _context.get(None) or Context(run_id=os.environ.get(_RUN_ID), flow_run_id=os.environ.get(_FLOW_RUN_ID))


@contextmanager
def using(**changes: Any) -> Iterator[Context]:
    """Within the block the fields of the context that `changes` names have other values."""
    token = _context.set(replace(current(), **changes))
    try:
        yield current()
    finally:
        _context.reset(token)


@contextmanager
def listening(listener: ProgressListener) -> Iterator[None]:
    """`listener` hears of all progress within the block."""
    with using(listeners=(*current().listeners, listener)):
        yield


def environment() -> Mapping[str, str]:
    """The environment of a child process that works for the same run."""
    run = {_RUN_ID: current().run_id, _FLOW_RUN_ID: current().flow_run_id}
    return {**os.environ, **{name: value for name, value in run.items() if value is not None}}


def thread(work: Callable[[], None], name: str) -> threading.Thread:
    """A daemon thread, not yet started, that does `work` in the context of its maker."""
    return threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True)
