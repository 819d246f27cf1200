"""Progress of long work: rich bars in a terminal, plain lines elsewhere, and the context's listeners. It only shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cohobate.core import context
from cohobate.core.context import ProgressListener
from cohobate.core.sanitize import harmless

_PLAIN_SECONDS = 5.0


def say(line: str) -> None:
    """One line for the person who watches, on standard error."""
    _print(line)
    for listener in context.current().listeners:
        listener.message(line)


def measured(label: str, step: int, values: Mapping[str, float]) -> None:
    """What the work `label` measured at one of its steps, for the context's listeners."""
    for listener in context.current().listeners:
        listener.measured(label, step, values)


def _print(line: str) -> None:
    print(harmless(line), file=sys.stderr)


Display = Callable[["Bar"], None]


class Bar:
    """A piece of work with a known total, drawn by each of `displays` when it advances."""

    def __init__(self, label: str, total: int, unit: str, displays: Sequence[Display] = ()) -> None:
        self.label, self.total, self.unit, self.displays = label, total, unit, displays
        self.done, self.note = 0, ""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more are done; `note` is the newest fact worth a glance."""
        self.done += count
        self.note = self.note if note is None else note
        for display in self.displays:
            display(self)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Bar]:
    """A `Bar` drawn while the block runs, and followed by the context's listeners."""
    listeners = context.current().listeners
    for listener in listeners:
        listener.start(label, total, unit)
    try:
        yield from (_in_terminal if sys.stderr.isatty() else _in_lines)(
            label, total, unit, [_update_of(listener) for listener in listeners]
        )
    finally:
        for listener in listeners:
            listener.finish(label)


def _update_of(listener: ProgressListener) -> Display:
    return lambda bar: listener.update(bar.label, bar.done, bar.total, bar.note)


def _in_terminal(label: str, total: int, unit: str, listeners: Sequence[Display]) -> Iterator[Bar]:
    from cohobate.core.progress_rich import terminal_bar

    with terminal_bar(label, total, unit) as draw:
        yield Bar(label, total, unit, [lambda bar: draw(bar.done, bar.note), *listeners])


def _in_lines(label: str, total: int, unit: str, listeners: Sequence[Display]) -> Iterator[Bar]:
    lines = _Lines()
    it = Bar(label, total, unit, [lines, *listeners])
    yield it
    lines.print(it)


class _Lines:
    """A plain line every few seconds."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def __call__(self, bar: Bar) -> None:
        if time.monotonic() - self.last >= _PLAIN_SECONDS:
            self.print(bar)

    def print(self, bar: Bar) -> None:
        self.last = time.monotonic()
        rate = bar.done / max(1e-9, self.last - self.began)
        left = f", {(bar.total - bar.done) / rate:.0f} s left" if rate and bar.done < bar.total else ""
        note = f", {bar.note}" if bar.note else ""
        _print(f"{bar.label}: {bar.done}/{bar.total} {bar.unit} ({rate:.1f}/s{left}{note})")
