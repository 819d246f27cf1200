"""Intervals for measured shares."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927): right at 0, at 1 and for small n. (0, 1) when n is 0."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Exactly 0 and 1 at the ends, where the formula is off by a rounding error.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high
