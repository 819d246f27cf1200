"""How fast an endpoint is asked: its concurrency, found by additive increase and multiplicative decrease.

A refusal now and then is an accident and only delays its own row. When more than a tenth of the requests in flight
are refused, the limit is halved; requests that were sent before do not halve it again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_ACCIDENTS = 0.1
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 30.0


class Pace:
    """The limit of requests in flight to one server. Times are seconds of one monotonic clock.

    It begins at a quarter of the ceiling and doubles with each round of answers; after the first cut it grows by a
    thirty-second of the ceiling a round.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = max(1.0, ceiling / 4)
        self._cut_at: float | None = None
        self._round = self._refused = 0

    def answered(self) -> None:
        """A request came back with an answer."""
        step = self.limit if self._cut_at is None else max(1.0, self.ceiling / 32)
        self.limit = min(float(self.ceiling), self.limit + step / self.limit)
        self._count()

    def refused(self, sent: float, now: float) -> None:
        """A request sent at `sent` was refused for now, or not answered in time."""
        if self._cut_at is not None and sent < self._cut_at:
            return
        self._refused += 1
        if self._refused > _ACCIDENTS * self.limit:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now
            self._round = self._refused = 0
        else:
            self._count()

    def _count(self) -> None:
        self._round += 1
        if self._round >= self.limit:
            self._round = self._refused = 0


def backoff(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th failure (from 1): doubling, half of it random."""
    longest: float = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt - 1, 16))
    return longest * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
