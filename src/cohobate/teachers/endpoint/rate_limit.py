"""The rate of requests to a server: concurrency by additive increase and multiplicative decrease, and waits.

A single refusal delays only its own request. When more than a tenth of the requests in flight are refused, the limit
is halved; requests that were sent before do not halve it again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_TOLERATED = 0.1  # share of refusals
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 30.0


class Pace:
    """The limit of requests in flight to one server. Times are seconds of one monotonic clock.

    It is the ceiling, which the recipe sets, until the server refuses; from then on it grows by a thirty-second of the
    ceiling per round of replies. Until the first reply a failure gives no room to another request, so that a wrong key,
    address or setting costs no more requests than the ceiling, and a few.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self._cut_at: float | None = None
        self._round = self._refusals = 0

    def count_reply(self) -> None:
        """Count a reply."""
        grown = self.ceiling if self._cut_at is None else self.limit + max(1.0, self.ceiling / 32) / self.limit
        self.limit = min(float(self.ceiling), grown)
        self._count()

    def count_early_failure(self) -> None:
        """Count a request that failed before the server's first reply."""
        self.limit = max(1.0, self.limit - 1)

    def count_refusal(self, sent: float, now: float) -> None:
        """Count a request of the time `sent` that was refused for now, or had no reply in time."""
        if self._cut_at is not None and sent < self._cut_at:
            return
        self._refusals += 1
        if self._refusals > _TOLERATED * self.limit:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now
            self._round = self._refusals = 0
        else:
            self._count()

    def _count(self) -> None:
        self._round += 1
        if self._round >= self.limit:
            self._round = self._refusals = 0


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
