"""What a build must hold while it works, such as a GPU's slot: whoever runs the stages says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Slot = Callable[[str], AbstractContextManager[None]]
_slots: list[Slot] = []


@contextmanager
def required(slot: Slot) -> Iterator[None]:
    """Builds within the block hold `slot(id of the artifact)`; what the store has already needs none."""
    _slots.append(slot)
    try:
        yield
    finally:
        _slots.remove(slot)


@contextmanager
def held(what: str) -> Iterator[None]:
    """Wait for the innermost slot that is required, and hold it."""
    if not _slots:
        yield
        return
    with _slots[-1](what):
        yield
