"""The checks of the gate as the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cohobate.core.statistics import Interval
from cohobate.datasets.gate import Check


def gate_rows(checks: Iterable[Check]) -> list[dict[str, str]]:
    """One row per check, as text: those that failed come first."""
    return [_row(check) for check in sorted(checks, key=lambda check: check.passed)]


def _row(check: Check) -> dict[str, str]:
    rate = not check.measure.startswith("mean of")
    return {
        "check": f"{check.measure}, {check.part}",
        "verdict": "passed" if check.passed else "refused",
        "before": _value(check.before, rate=rate),
        "now": _value(check.now, rate=rate),
        "difference": _interval(check.difference),
        "limit": check.limit,
        "of": f"{check.questions:,}",
        "reason": check.reason or "",
    }


def _value(value: float | None, *, rate: bool) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if rate else f"{value:.1f}"


def _interval(difference: Interval) -> str:
    if math.isnan(difference.mean):
        return "–"
    bounds = f" [{difference.low:+.1%}, {difference.high:+.1%}]" if difference.bounded else ""
    return f"{difference.mean:+.1%}{bounds}"
