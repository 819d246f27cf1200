"""The checks of the gate between two data sets: the shared questions, the whole, and the new questions alone.

Of the shared questions differences are paired by question. The whole and the new questions are compared with the whole
of the old data set: a rate by the difference of two shares (Newcombe 1998), a length by Welch's interval. The unit is
the question, whose samples are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from cohobate.config import Gate
from cohobate.core.statistics import Interval, as_json, newcombe, over_seeds, paired, welch, wilson
from cohobate.datasets.diff import Dataset, DatasetDiff
from cohobate.teachers.probes import ProbeResult

SHARED, WHOLE, NEW = "shared questions", "whole dataset", "new questions"


@dataclass(frozen=True)
class Check:
    """One check. before, now: the means of both sides, None where there is none. difference: now - before, of lengths
    in part of `before`. limit: in words. reason: a sentence where it fails.
    """

    part: str
    measure: str
    questions: int
    before: float | None
    now: float | None
    difference: Interval
    limit: str
    reason: str | None = None

    @property
    def passed(self) -> bool:
        """Whether there is no objection."""
        return self.reason is None

    def as_json(self) -> dict[str, Any]:
        """The fields, and `passed`."""
        return {**as_json(self), "passed": self.passed}


@dataclass(frozen=True)
class _Rate:
    """A share of a question's samples: `count` of the samples that `of` counts (columns of `DatasetDiff.questions`)."""

    name: str
    count: str
    of: str = "n"
    worse: Literal["lower", "higher"] = "higher"

    def values(self, rows: pl.DataFrame, side: str) -> pl.Series:
        """Of each question; null where there is no such sample."""
        of = pl.col(f"{self.of}_{side}")
        return rows.select(pl.when(of > 0).then(pl.col(f"{self.count}_{side}") / of)).to_series()


_PASS_RATE = _Rate("pass rate", "correct", "decided", "lower")
_CORRECT = _Rate("correct share", "correct", "n", "lower")
_RATES = (
    _PASS_RATE,
    _CORRECT,
    _Rate("undecided share", "undecided"),
    _Rate("share without an answer", "unanswered"),
    _Rate("truncated share", "truncated"),
)
_LENGTHS = (("mean of tokens a response", "tokens"), ("mean of characters a rationale", "rationale_characters"))


def checks(datasets: DatasetDiff, limits: Gate) -> Iterator[Check]:
    """Every check of B against A."""
    rows = datasets.questions
    in_a, in_b = pl.col("n_a").is_not_null(), pl.col("n_b").is_not_null()
    both, new = rows.filter(in_a & in_b), rows.filter(in_b & ~in_a)
    for rate in _RATES:
        yield _shared(rate, both, limits)
    for name, column in _LENGTHS:
        yield from _length(SHARED, name, both[f"{column}_a"], both[f"{column}_b"], limits, matched=True)
    before, now = rows.filter(in_a), rows.filter(in_b)
    yield from _missing(len(before), len(before) - len(both), limits)
    yield from _alone(WHOLE, before, now, limits.overall, limits)
    yield from _failures(WHOLE, int(now["n_b"].sum()), datasets.b.failures, limits)
    yield from _alone(NEW, before, new, limits.new, limits)
    yield from _failures(NEW, int(new["n_b"].sum()), datasets.new_failures, limits)


def probes(result: ProbeResult, limits: Gate) -> Check:
    """Whether the teacher's probes say that it is still the same model."""
    reason = None
    if result.since is not None and not result.answered:
        reason = f"{result.sentence}, so nothing says whether it is the same model"
    elif result.since is not None and result.difference.low > limits.probes:
        reason = f"{result.sentence}: another model may stand behind the name; set teacher.revision, which asks it anew"
    before = result.unsteady / result.probes if result.probes else None
    now = result.differing / result.answered if result.answered else None
    name, limit = f"probes that differ, {result.teacher}", f"{limits.probes:.1%}"
    return Check("teacher", name, result.answered, before, now, result.difference, limit, reason)


def first(dataset: Dataset, limits: Gate) -> Iterator[Check]:
    """Every check of a data set that there is no earlier one of."""
    rows = dataset.questions
    yield from _failures(WHOLE, int(rows["n"].sum()), len(dataset.failed), limits)
    # Samples without a gold answer that nothing could decide say nothing against it.
    judged = rows.filter(pl.col("gold").is_not_null() | (pl.col("decided") > 0))
    if len(judged):
        share = judged["correct"] / judged["n"]
        reason = None if judged["correct"].sum() else f"no answer to any of the {len(judged):,} questions is correct"
        mean = wilson(_sum(share), len(judged))
        yield Check(WHOLE, _CORRECT.name, len(judged), None, _mean(share), mean, "above 0", reason)


def _shared(rate: _Rate, both: pl.DataFrame, limits: Gate) -> Check:
    """A rate of the questions in both, paired."""
    rows = both
    if rate is _CORRECT:  # a question that nobody can decide says nothing of either
        rows = both.filter((pl.col("decided_a") > 0) | (pl.col("decided_b") > 0))
    values = pl.DataFrame({"a": rate.values(rows, "a"), "b": rate.values(rows, "b")}).drop_nulls()
    difference = paired((values["b"] - values["a"]).to_list())
    reason = _worse(rate, difference, limits.shared)
    if rate.worse == "lower" and not reason and -difference.low > limits.shared + limits.margin:
        if len(values):
            reason = (
                f"{len(values):,} shared questions say too little: the {rate.name} may be lower by up to "
                f"{-difference.low:.1%}, and {limits.shared:.1%} and gate.margin = {limits.margin:.1%} are allowed"
            )
        else:
            reason = f"no question was {'decided in' if rate is _PASS_RATE else 'decidable in'} both"
    limit = f"{limits.shared:.1%}" + (f", margin {limits.margin:.1%}" if rate.worse == "lower" else "")
    return Check(SHARED, rate.name, len(values), _mean(values["a"]), _mean(values["b"]), difference, limit, reason)


def _alone(part: str, before: pl.DataFrame, now: pl.DataFrame, allowed: float, limits: Gate) -> Iterator[Check]:
    """Rates and lengths of `now` (B) against those of `before` (A), which are not matched."""
    if not len(before) or not len(now):
        return
    for rate in _RATES:
        a, b = rate.values(before, "a").drop_nulls(), rate.values(now, "b").drop_nulls()
        if not len(a) or not len(b):
            continue  # nothing is decided: the undecided share says so
        difference = newcombe(wilson(_sum(b), len(b)), wilson(_sum(a), len(a)))
        reason = _worse(rate, difference, allowed)
        if reason:
            reason = f"of the {len(now):,} {'new questions' if part == NEW else 'questions in all'} {reason}"
        yield Check(part, rate.name, len(b), _mean(a), _mean(b), difference, f"{allowed:.1%}", reason)
    for name, column in _LENGTHS:
        yield from _length(part, name, before[f"{column}_a"], now[f"{column}_b"], limits, matched=False)


def _worse(rate: _Rate, difference: Interval, allowed: float) -> str | None:
    """A sentence where all of the interval is beyond the limit."""
    lost = Interval(-difference.mean, -difference.high, -difference.low)
    loss = lost if rate.worse == "lower" else difference
    if not loss.low > allowed:
        return None
    return (
        f"the {rate.name} is {rate.worse} by {loss.mean:.1%} "
        f"(95% interval {loss.low:.1%} to {loss.high:.1%}, allowed {allowed:.1%})"
    )


def _length(part: str, name: str, a: pl.Series, b: pl.Series, limits: Gate, *, matched: bool) -> Iterator[Check]:
    """A mean over questions, whose change is taken in part of A's."""
    if matched:
        values = pl.DataFrame({"a": a, "b": b}).drop_nulls()
        a, b = values["a"], values["b"]
    else:
        a, b = a.drop_nulls(), b.drop_nulls()
    before, now = _mean(a), _mean(b)
    if before is None or now is None:
        return
    change = over_seeds((b - a).to_list()) if matched else welch(b.to_list(), a.to_list())
    reason, from_nothing = None, not before and change.low > 0
    if before:
        change = Interval(*(value / before for value in (change.mean, change.low, change.high)))
    elif now:
        change = Interval(math.nan, -math.inf, math.inf)  # no part of nothing
    if from_nothing:
        reason = f"the {name} of the {part} was 0 and is {now:,.1f}, a change without bound"
    elif change.low > limits.lengths or change.high < -limits.lengths:
        reason = (
            f"the {name} of the {part} changes by {change.mean:+.0%} (95% interval {change.low:+.0%} to "
            f"{change.high:+.0%}, allowed {limits.lengths:.0%})"
        )
    yield Check(part, name, len(b), before, now, change, f"±{limits.lengths:.0%}", reason)


def _missing(old: int, missing: int, limits: Gate) -> Iterator[Check]:
    """The share of A's questions that B lacks, which counts as it is."""
    if not old:
        return
    share = wilson(missing, old)
    reason = None
    if share.mean > limits.missing:
        more = f"more than gate.missing = {limits.missing:g} allows"
        reason = f"{missing:,} of the {old:,} old questions are not in the new dataset, {more}"
    yield Check(WHOLE, "old questions missing", old, None, share.mean, share, f"{limits.missing:.1%}", reason)


def _failures(part: str, answered: int, failed: int, limits: Gate) -> Iterator[Check]:
    """The share of failed requests, which counts as it is: the requests are all there were."""
    requests = answered + failed
    if not requests:
        return
    share = wilson(failed, requests)
    reason = None
    if share.mean > limits.failures:
        about = " about new questions" if part == NEW else ""
        reason = (
            f"{failed:,} of {requests:,} requests{about} failed, more than gate.failures = {limits.failures:g} allows"
        )
    yield Check(part, "failed requests", requests, None, share.mean, share, f"{limits.failures:.1%}", reason)


def _mean(values: pl.Series) -> float | None:
    mean: float | None = values.mean()  # type: ignore[assignment]
    return mean


def _sum(values: pl.Series) -> float:
    return math.fsum(values.to_list())
