"""What it costs to reach an accuracy: curves of measured points, read between the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.core.statistics import over_seeds, welch

# What an accuracy may cost; FLOPs from the start on, evaluation left out.
COSTS = ("flops", "teacher_flops", "student_flops", "step")
Point = dict[str, Any]
Interval = dict[str, float | None]


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
    """{mean, low, high}: the geometric mean over seeds with its 95% interval; None unless all reached it.

    low and high are None where one seed, or a cost of nothing, allows no interval.
    """
    if not found.all_reached:
        return None
    if min(found.paid) <= 0:
        return {"mean": math.fsum(found.paid) / len(found.paid), "low": None, "high": None}
    return _exponential(over_seeds([math.log(cost) for cost in found.paid]))


def ratio(found: Reached, to: Reached) -> dict[str, Any] | None:
    """{mean, low, high, bound}: how many times as much as `to` was paid, by geometric means, with 95% interval.

    bound: not all seeds of `found` reached it, so it is at least so many times as much (and has no interval). None
    where `to` was not reached by all its seeds, or either cost nothing.
    """
    if not to.all_reached or min(found.at_least()) <= 0 or min(to.paid) <= 0:
        return None
    ours, theirs = [[math.log(cost) for cost in costs] for costs in (found.at_least(), to.paid)]
    if not found.all_reached:
        difference = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
        return {"mean": math.exp(difference), "low": None, "high": None, "bound": True}
    return {**_exponential(welch(ours, theirs)), "bound": False}


def _exponential(logs: tuple[float, float, float]) -> Interval:
    mean, low, high = logs
    bounded = math.isfinite(low) and math.isfinite(high)
    return {
        "mean": math.exp(mean),
        "low": math.exp(low) if bounded else None,
        "high": math.exp(high) if bounded else None,
    }
