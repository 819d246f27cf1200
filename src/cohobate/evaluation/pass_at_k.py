"""avg@k and pass@k of questions that are answered k times, with intervals that account for clusters of answers.

avg@k is the mean over all answers. Answers to one question are correlated, so its interval is Wilson's with the
effective number of independent answers (Korn and Graubard 1998): p (1 - p) / variance of the questions' means, at least
the number of questions. pass@j is the unbiased estimate 1 - C(n - c, j) / C(n, j) (Chen et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from cohobate.config import Fractions, Questions, Suite
from cohobate.core.errors import QuestionsError
from cohobate.core.statistics import Interval, wilson
from cohobate.sources.read import read

_ALL = Fractions(train=0, fresh=0, validation=0, test=1)


def questions(suite: Suite) -> Questions:
    """The suite's file as a source of questions."""
    return Questions(
        source="file",
        path=suite.path,
        columns=suite.columns,
        gold_after=suite.gold_after,
        system=suite.system,
        unsupported=suite.unsupported,
        split=_ALL,
    )


def read_suite(suite: Suite) -> pl.DataFrame:
    """The questions of the suite. Raises QuestionsError for a file that cannot be read, or one without gold answers."""
    frame = read(questions(suite)).questions
    if missing := frame["gold_answer"].null_count():
        raise QuestionsError(
            f"suite {suite.name}: {missing} of {len(frame)} questions in {suite.path} have no gold answer; set "
            "suites.columns.gold_answer"
        )
    return frame


@dataclass(frozen=True)
class AverageAtK:
    """avg@k over n answers, k to each of so many questions, and pass@j for each of some j up to k."""

    n: int
    questions: int
    k: int
    accuracy: Interval
    pass_at: dict[int, Interval]


def score(answers: pl.DataFrame) -> AverageAtK:
    """avg@k and pass@j of `answers`: columns question_id and verdict, k rows per question."""
    right = pl.col("verdict") == "correct"
    counted = answers.group_by("question_id", maintain_order=True).agg(right.sum().alias("right"), pl.len().alias("n"))
    correct, samples = counted["right"].to_list(), counted["n"].to_list()
    k = min(samples)
    mean = sum(correct) / sum(samples)
    interval = average_interval([c / n for c, n in zip(correct, samples, strict=True)], sum(samples))
    powers = [2**power for power in range(k.bit_length()) if 2**power <= k]
    steps = sorted({*powers, k})
    passed = {j: _passed(correct, samples, j) for j in steps}
    return AverageAtK(len(answers), len(counted), k, replace(interval, mean=mean), passed)


def average_interval(means: Sequence[float], answers: int) -> Interval:
    """95% interval of the mean of the questions' means, each of several answers, `answers` in all."""
    count = len(means)
    mean = sum(means) / count
    variance = sum((value - mean) ** 2 for value in means) / max(1, count - 1) / count
    effective = float(count)  # all right or all wrong: the correlation of the answers cannot be measured
    if 0 < mean < 1:
        effective = mean * (1 - mean) / variance if variance > 0 else math.inf
    n = round(min(max(effective, count), answers))
    return _wilson(mean, n)


def pass_at(n: int, correct: int, j: int) -> float:
    """The probability that at least one of j answers is correct, drawn from n of which `correct` are."""
    return 1 - math.comb(n - correct, j) / math.comb(n, j)


def _passed(correct: Sequence[int], samples: Sequence[int], j: int) -> Interval:
    """The mean of pass@j over questions; its interval counts questions, not answers."""
    mean = sum(pass_at(n, c, j) for c, n in zip(correct, samples, strict=True)) / len(samples)
    return _wilson(mean, len(samples))


def _wilson(share: float, n: int) -> Interval:
    """Wilson's interval of a share of n, interpolated where share * n is no integer."""
    successes = round(share * n)
    if abs(share * n - successes) < 1e-9:
        return wilson(successes, n)
    below, above = wilson(math.floor(share * n), n), wilson(math.ceil(share * n), n)
    part = share * n - math.floor(share * n)
    low, high = below.low + part * (above.low - below.low), below.high + part * (above.high - below.high)
    return Interval(share, low, high)
