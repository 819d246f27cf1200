"""Numbers in a form for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohobate.core.statistics import Interval


def size(count: float) -> str:
    """A count of bytes with its unit: 12345678 is 12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def percent(share: float | None) -> str:
    """0.4213 -> 42.1%; None -> –."""
    return "–" if share is None else f"{share:.1%}"


def percent_interval(share: Interval | None) -> str:
    """`91.0% [88.2%, 93.8%]`, with bounds within 0 to 100%; the mean alone where there are no bounds."""
    if share is None:
        return percent(None)
    if not share.bounded:
        return percent(share.mean)
    return f"{share.mean:.1%} [{max(0.0, share.low):.1%}, {min(1.0, share.high):.1%}]"
