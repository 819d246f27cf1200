"""95% intervals of measured shares, of paired differences and of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self

Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value and its two-sided 95% interval.

    mean is nan where nothing was measured. low and high are infinite where the data allow no interval.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def from_row(cls, row: Mapping[str, Any], mean: str = "mean") -> Self:
        """The interval that `as_row` gave."""
        value, low, high = row[mean], row["low"], row["high"]
        return cls(
            math.nan if value is None else value, -math.inf if low is None else low, math.inf if high is None else high
        )

    @property
    def bounded(self) -> bool:
        """Whether the data allow an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def as_row(self, mean: str = "mean") -> dict[str, float | None]:
        """{`mean`, low, high} as tables and JSON hold it; None for a mean of nothing, and where there are no bounds."""
        low, high = (self.low, self.high) if self.bounded else (None, None)
        return {mean: None if math.isnan(self.mean) else self.mean, "low": low, "high": high}

    def map(self, increasing: Callable[[float], float]) -> Interval:
        """The interval of an increasing function of the value, such as exp."""
        return Interval(increasing(self.mean), increasing(self.low), increasing(self.high))


def as_json(record: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values: an Interval as {field, low, high}, other dataclasses as objects."""
    values: dict[str, Any] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if isinstance(value, Interval):
            values |= value.as_row(each.name)
        else:
            values[each.name] = as_json(value) if is_dataclass(value) else value
    return values


def wilson(successes: float, n: int, z: float = Z95) -> Interval:
    """Wilson score interval of a share (Wilson 1927): right at 0, at 1 and for small n. (nan, 0, 1) when n is 0.

    successes: of n trials, or the sum of n shares in [0, 1], whose variance is at most that of trials.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Exactly 0 and 1 at the ends, where the formula is off by a rounding error.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return Interval(share, low, high)


def newcombe(a: Interval, b: Interval) -> Interval:
    """The difference a - b of two independent shares, from their Wilson intervals (Newcombe 1998, method 10)."""
    difference = a.mean - b.mean
    low = difference - math.hypot(a.mean - a.low, b.high - b.mean)
    return Interval(difference, low, difference + math.hypot(a.high - a.mean, b.mean - b.low))


def paired(differences: Sequence[float], z: float = Z95) -> Interval:
    """Mean difference of matched shares (each in [-1, 1]), and its interval; (0, -1, 1) when there are none.

    Wald after adding a half to each cell of the two-by-two table (Agresti and Min 2005): two more pairs, of which one
    in all disagrees. It has a width even where every pair agrees, and pairs may be shares of several samples.
    """
    n = len(differences)
    if n == 0:
        return Interval(0.0, -1.0, 1.0)
    total, squares = math.fsum(differences), math.fsum(d * d for d in differences)
    centre = total / (n + 2)
    variance = (squares + 1) / (n + 2) - centre * centre
    half = z * math.sqrt(variance / (n + 2))
    return Interval(total / n, max(-1.0, centre - half), min(1.0, centre + half))


# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one is within 2%.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def _t95(freedom: int) -> float:
    return _T95[freedom - 1] if freedom <= len(_T95) else Z95


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of repeated runs and its interval by Student's t, for which the runs count and not their questions.

    The interval of a single run is unbounded: (value, -inf, inf). Raises ValueError without a run.
    """
    n = len(values)
    if n == 0:
        raise ValueError("there is no run to take the mean of")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = _t95(n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half)


def shares_over_seeds(shares: Sequence[float], n: int) -> Interval:
    """Mean share of correct answers to the same `n` questions over runs, and its interval by Student's t.

    Where all runs have the same share, which Student's t would give no width, it is that of the questions (Wilson).
    """
    if len(shares) > 1 and len(set(shares)) == 1:
        return wilson(shares[0] * n, n)
    return over_seeds(shares)


def welch(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Difference of the means of two sets of independent runs (a less b), and its interval (Welch 1947).

    Variances may differ; degrees of freedom are rounded down. Unbounded where either set has a single run. Raises
    ValueError where either has none.
    """
    means, shares = [], []
    for values in (a, b):
        mean = over_seeds(values).mean
        means.append(mean)
        n = len(values)
        shares.append((math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n, n) if n > 1 else (math.inf, n))
    difference, variance = means[0] - means[1], math.fsum(share for share, _ in shares)
    if variance == math.inf:
        return Interval(difference, -math.inf, math.inf)
    if variance == 0:
        return Interval(difference, difference, difference)
    freedom = variance**2 / math.fsum(share**2 / (n - 1) for share, n in shares)
    half = _t95(max(1, int(freedom + 1e-9))) * math.sqrt(variance)
    return Interval(difference, difference - half, difference + half)
