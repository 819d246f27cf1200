"""Intervals for measured shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def paired(differences: Sequence[float], z: float = Z95) -> tuple[float, float, float]:
    """Mean difference of matched shares (each in [-1, 1]), and its interval; (0, -1, 1) when there are none.

    Wald after adding a half to each cell of the two-by-two table (Agresti and Min 2005): two more pairs, of which one
    in all disagrees. It has a width even where every pair agrees, and pairs may be shares of several samples.
    """
    n = len(differences)
    if n == 0:
        return 0.0, -1.0, 1.0
    total, squares = math.fsum(differences), math.fsum(d * d for d in differences)
    centre = total / (n + 2)
    variance = (squares + 1) / (n + 2) - centre * centre
    half = z * math.sqrt(variance / (n + 2))
    return total / n, max(-1.0, centre - half), min(1.0, centre + half)


# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one is within 2%.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def _t95(freedom: int) -> float:
    return _T95[freedom - 1] if freedom <= len(_T95) else Z95


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of repeated runs and its interval by Student's t, for which the runs count and not their questions.

    The interval of a single run is unbounded: (value, -inf, inf). Raises ValueError without a run.
    """
    n = len(values)
    if n == 0:
        raise ValueError("there is no run to take the mean of")
    mean = math.fsum(values) / n
    if n == 1:
        return mean, -math.inf, math.inf
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = _t95(n - 1) * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Difference of the means of two sets of independent runs (a less b), and its interval (Welch 1947).

    Variances may differ; degrees of freedom are rounded down. Unbounded where either set has a single run. Raises
    ValueError where either has none.
    """
    means, shares = [], []
    for values in (a, b):
        mean, _, _ = over_seeds(values)
        means.append(mean)
        n = len(values)
        shares.append((math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n, n) if n > 1 else (math.inf, n))
    difference, variance = means[0] - means[1], math.fsum(share for share, _ in shares)
    if variance == math.inf:
        return difference, -math.inf, math.inf
    if variance == 0:
        return difference, difference, difference
    freedom = variance**2 / math.fsum(share**2 / (n - 1) for share, n in shares)
    half = _t95(max(1, int(freedom + 1e-9))) * math.sqrt(variance)
    return difference, difference - half, difference + half
