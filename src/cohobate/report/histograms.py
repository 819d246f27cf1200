"""Distributions as the dataset page draws them: equal bins with round edges, and counted labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS = 24
# Beyond this quantile lies a tail.
_TAIL = 0.99
# Multiples of a width such as 0.05 are not exact.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Bin:
    """Values from `low` up to `high`, which belongs to it only in the last bin; `height` in percent of the tallest."""

    low: float
    high: float
    count: int
    height: float


@dataclass(frozen=True)
class Histogram:
    """One distribution: its name and unit, its bins, and median, mean and 95th percentile of its n values.

    more: the last bin holds all values above its lower edge, since a long tail would leave no room for the rest.
    """

    name: str
    unit: str
    bins: list[Bin]
    more: bool
    n: int
    mean: float
    median: float
    p95: float


def histogram(name: str, unit: str, values: pl.Series, width: float | None = None) -> Histogram | None:
    """The distribution of the finite values in bins of `width` (None: a round one); None where there is no value."""
    finite = values.drop_nulls().cast(pl.Float64)
    finite = finite.filter(finite.is_finite()).sort()
    if finite.is_empty():
        return None
    low, high = finite[0], finite[-1]
    most = float(finite.quantile(_TAIL, "nearest") or 0)
    more = width is None and high - low > 1.5 * (most - low) > 0
    edges = _edges(low, most if more else high, width, integers=values.dtype.is_integer())
    slack = _ROUNDING * (edges[1] - edges[0])
    positions = np.clip(np.searchsorted(edges - slack, finite.to_numpy(), side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(positions, minlength=len(edges) - 1)
    bins = [
        Bin(float(first), float(last), int(count), 100 * int(count) / int(counts.max()))
        for first, last, count in zip(edges, edges[1:], counts, strict=False)
    ]
    median, p95 = (float(finite.quantile(q, "nearest") or 0) for q in (0.5, 0.95))
    return Histogram(name, unit, bins, more, len(finite), float(np.mean(finite.to_numpy())), median, p95)


def _edges(low: float, high: float, width: float | None, *, integers: bool) -> NDArray[np.float64]:
    """Multiples of one width around [low, high]. The highest of integers gets a bin that ends above it."""
    step = width or _round_width((high - low) / _BINS, integers=integers)
    first = math.floor(low / step + _ROUNDING)
    last = math.floor(high / step + _ROUNDING) + 1 if integers else math.ceil(high / step - _ROUNDING)
    edges: NDArray[np.float64] = np.arange(first, max(first + 1, last) + 1, dtype=np.float64) * step
    return edges


@dataclass(frozen=True)
class Bar:
    """One label of a counted list; `share` of all, `width` in percent of the largest."""

    label: str
    count: int
    share: float
    width: float


def bars(counted: Sequence[tuple[str, int]], most: int = 12) -> list[Bar]:
    """The labels in order, those beyond the first `most` together as one."""
    shown = list(counted[:most])
    rest = counted[most:]
    if rest:
        shown.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    return list(_bars(shown))


def _bars(shown: list[tuple[str, int]]) -> Iterator[Bar]:
    total, largest = sum(count for _, count in shown), max((count for _, count in shown), default=0)
    for label, count in shown:
        yield Bar(label, count, count / total if total else 0.0, 100 * count / largest if largest else 0.0)


def _round_width(width: float, *, integers: bool) -> float:
    """The next of 1, 2, 5 times a power of ten; for integers at least 1."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    round_width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9))
    return max(1.0, round_width) if integers else round_width
