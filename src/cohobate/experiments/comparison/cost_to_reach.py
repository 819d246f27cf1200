"""Cost of reaching an accuracy, read off curves of evaluation points that are linear between the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cohobate.core.statistics import Interval, over_seeds, welch
from cohobate.experiments.comparison.facts import Cost, CurvePoint


def cost_to_reach(curve: Sequence[CurvePoint], target: float, cost: Cost) -> float | None:
    """Cost at which the curve, in order of its cost, first reaches `target`; None where it never does."""
    before: CurvePoint | None = None
    for point in curve:
        if point["accuracy"] >= target:
            if before is None:
                return float(point[cost])
            share = (target - before["accuracy"]) / (point["accuracy"] - before["accuracy"])
            return float(before[cost] + share * (point[cost] - before[cost]))
        before = point
    return None


@dataclass(frozen=True)
class SeedCosts:
    """Cost at which each seed of a method reached an accuracy; None for a seed that never did.

    spent: cost of each seed at its last evaluation point.
    """

    costs: list[float | None]
    spent: list[float]

    @property
    def paid(self) -> list[float]:
        """Costs of the seeds that reached it."""
        return [cost for cost in self.costs if cost is not None]

    @property
    def all_reached(self) -> bool:
        return len(self.paid) == len(self.costs)

    def at_least(self) -> list[float]:
        """Lower bound of each seed's cost: for a seed that never reached it, all that it spent."""
        return [spent if cost is None else cost for cost, spent in zip(self.costs, self.spent, strict=True)]


def seed_costs(curves: Sequence[Sequence[CurvePoint]], target: float, cost: Cost) -> SeedCosts:
    """Cost of reaching `target` on each seed's curve."""
    costs = [cost_to_reach(curve, target, cost) for curve in curves]
    return SeedCosts(costs, [float(curve[-1][cost]) for curve in curves])


def geometric_mean(costs: SeedCosts) -> Interval | None:
    """Geometric mean over seeds with its 95% interval; None unless all seeds reached the target.

    A cost of 0 has no logarithm: then it is the arithmetic mean, without bounds.
    """
    if not costs.all_reached:
        return None
    if min(costs.paid) <= 0:
        return Interval(math.fsum(costs.paid) / len(costs.paid), -math.inf, math.inf)
    return over_seeds([math.log(cost) for cost in costs.paid]).map(math.exp)


@dataclass(frozen=True)
class CostRatio:
    """Ratio of two costs. bound: its mean is a lower bound, since not all seeds reached the target."""

    times: Interval
    bound: bool


def cost_ratio(costs: SeedCosts, reference: SeedCosts) -> CostRatio | None:
    """Ratio of the geometric means of `costs` and `reference`, with its 95% interval.

    None where not all seeds of `reference` reached the target, or either cost nothing.
    """
    if not reference.all_reached or min(costs.at_least()) <= 0 or min(reference.paid) <= 0:
        return None
    ours, theirs = [[math.log(cost) for cost in each] for each in (costs.at_least(), reference.paid)]
    if not costs.all_reached:
        difference = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
        return CostRatio(Interval(math.exp(difference), 0.0, math.inf), bound=True)
    return CostRatio(welch(ours, theirs).map(math.exp), bound=False)
