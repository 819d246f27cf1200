"""What it costs to reach an accuracy: curves of measured points, read between the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.core.statistics import Interval, over_seeds, welch

# What an accuracy may cost; FLOPs from the start on, evaluation left out.
COSTS = ("flops", "teacher_flops", "student_flops", "step")
Point = dict[str, Any]


def cost_to_reach(points: Sequence[Point], target: float, cost: str) -> float | None:
    """Where the line through the points (in order of their cost) first comes up to `target`; None: nowhere."""
    before: Point | None = None
    for point in points:
        if point["accuracy"] >= target:
            if before is None:
                return float(point[cost])
            share = (target - before["accuracy"]) / (point["accuracy"] - before["accuracy"])
            return float(before[cost] + share * (point[cost] - before[cost]))
        before = point
    return None


@dataclass(frozen=True)
class Reached:
    """What the seeds of a method paid for an accuracy; None for those that never came up to it.

    spent: what each seed had paid at its end.
    """

    costs: list[float | None]
    spent: list[float]

    @property
    def paid(self) -> list[float]:
        """Of the seeds that reached it."""
        return [cost for cost in self.costs if cost is not None]

    @property
    def all_reached(self) -> bool:
        return len(self.paid) == len(self.costs)

    def at_least(self) -> list[float]:
        """What each seed paid, or had paid in vain."""
        return [spent if cost is None else cost for cost, spent in zip(self.costs, self.spent, strict=True)]


def reach(curves: Sequence[Sequence[Point]], target: float, cost: str) -> Reached:
    """What each seed's curve says of `target`."""
    costs = [cost_to_reach(curve, target, cost) for curve in curves]
    return Reached(costs, [float(curve[-1][cost]) for curve in curves])


def typical(found: Reached) -> Interval | None:
    """The geometric mean over seeds with its 95% interval; None unless all reached it.

    It is unbounded where one seed, or a cost of nothing, allows no interval.
    """
    if not found.all_reached:
        return None
    if min(found.paid) <= 0:
        return Interval(math.fsum(found.paid) / len(found.paid), -math.inf, math.inf)
    return over_seeds([math.log(cost) for cost in found.paid]).map(math.exp)


@dataclass(frozen=True)
class Ratio:
    """How many times as much as another method a method paid; `bound`: at least so many times, without an interval."""

    times: Interval
    bound: bool


def ratio(found: Reached, to: Reached) -> Ratio | None:
    """How many times as much as `to` was paid, by geometric means, with 95% interval.

    It is a bound where not all seeds of `found` reached the accuracy. None where `to` was not reached by all its seeds,
    or either cost nothing.
    """
    if not to.all_reached or min(found.at_least()) <= 0 or min(to.paid) <= 0:
        return None
    ours, theirs = [[math.log(cost) for cost in costs] for costs in (found.at_least(), to.paid)]
    if not found.all_reached:
        difference = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
        return Ratio(Interval(math.exp(difference), 0.0, math.inf), bound=True)
    return Ratio(welch(ours, theirs).map(math.exp), bound=False)
