"""Progress of long work: rich bars in a terminal, plain lines elsewhere, and sinks for whoever else listens."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cohobate.core import interrupts
from cohobate.core.sanitize import harmless

_PLAIN_SECONDS = 5.0


class Sink(Protocol):
    """Someone who follows the work: called at the start, at each advance, and at the end of a bar, and of each line."""

    def start(self, label: str, total: int, unit: str) -> None: ...
    def update(self, label: str, done: int, total: int, note: str) -> None: ...
    def finish(self, label: str) -> None: ...
    def said(self, line: str) -> None: ...


_sinks: list[Sink] = []


@contextmanager
def listening(sink: Sink) -> Iterator[None]:
    """`sink` hears of all progress within the block."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)


def say(line: str) -> None:
    """One line for the person who watches, on standard error."""
    _print(line)
    for sink in _sinks:
        sink.said(line)


def _print(line: str) -> None:
    print(harmless(line), file=sys.stderr)


class Bar:
    """A piece of work with a known total."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0, ""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more are done; `note` is the newest fact worth a glance. Acts on an interrupt that was swallowed."""
        interrupts.check()
        self.done += count
        self.note = self.note if note is None else note
        self._draw()
        for sink in _sinks:
            sink.update(self.label, self.done, self.total, self.note)

    def _draw(self) -> None:
        pass


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Bar]:
    """A `Bar` drawn while the block runs."""
    for sink in _sinks:
        sink.start(label, total, unit)
    try:
        with _terminal(label, total, unit) if sys.stderr.isatty() else _plain(label, total, unit) as it:
            yield it
    finally:
        for sink in _sinks:
            sink.finish(label)


class _TerminalBar(Bar):
    def __init__(self, label: str, total: int, unit: str, draw: Callable[[int, str], None]) -> None:
        super().__init__(label, total, unit)
        self.draw = draw

    def _draw(self) -> None:
        self.draw(self.done, self.note)


@contextmanager
def _terminal(label: str, total: int, unit: str) -> Iterator[Bar]:
    from cohobate.core.progress_rich import drawn

    with drawn(label, total, unit) as draw:
        yield _TerminalBar(label, total, unit, draw)


class _PlainBar(Bar):
    def __init__(self, label: str, total: int, unit: str) -> None:
        super().__init__(label, total, unit)
        self.began = self.last = time.monotonic()

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self.last >= _PLAIN_SECONDS:
            self.last = now
            self.print(now)

    def print(self, now: float) -> None:
        rate = self.done / max(1e-9, now - self.began)
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
        note = f", {self.note}" if self.note else ""
        _print(f"{self.label}: {self.done}/{self.total} {self.unit} ({rate:.1f}/s{left}{note})")


@contextmanager
def _plain(label: str, total: int, unit: str) -> Iterator[Bar]:
    it = _PlainBar(label, total, unit)
    yield it
    it.print(time.monotonic())
