"""Each check of the gate on data sets whose difference is known; the interval against published values."""

import json
import math
from typing import Any

import pytest

from cohobate.config import Gate
from cohobate.core.statistics import newcombe, wilson
from cohobate.datasets.diff import Dataset, diff
from cohobate.datasets.gate import GateResult, gate
from cohobate.datasets.gate_checks import Check
from cohobate.report.gate import gate_rows
from tests.support.datasets import Row, dataset

RIGHT, WRONG, CUT = Row("1"), Row("2"), Row(None, truncated=True)


def of(*groups: tuple[int, Row], first: int = 0, failed: int = 0) -> Dataset:
    """So many questions of each kind, numbered from `first`; then questions of which the only request failed."""
    kinds = [row for count, row in groups for _ in range(count)]
    rows = {f"q{number}": [row] for number, row in enumerate(kinds, first)}
    return dataset("d", rows, [f"failed{number}" for number in range(failed)])


def checked(old: Dataset, new: Dataset, /, **limits: Any) -> GateResult:
    return gate(diff(old, new), limits=Gate(**limits))


def check(result: GateResult, part: str, measure: str) -> Check:
    [found] = [each for each in result.checks if (each.part, each.measure) == (part, measure)]
    return found


@pytest.mark.parametrize(
    ("a", "n", "b", "m", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    a: int, n: int, b: int, m: int, low: float, high: float
) -> None:
    found = newcombe(wilson(a, n), wilson(b, m))
    assert found.mean == pytest.approx(a / n - b / m)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_appended_rows_that_are_all_wrong_are_refused_though_the_old_ones_are_as_they_were() -> None:
    result = checked(of((34, RIGHT)), of((34, RIGHT), (60, WRONG)))
    assert not result.passed
    assert check(result, "shared questions", "pass rate").passed
    refused = check(result, "new questions", "pass rate")
    assert (refused.questions, refused.before, refused.now, refused.difference.mean) == (60, 1.0, 0.0, -1.0)
    assert any("of the 60 new questions the pass rate is lower by 100.0%" in reason for reason in result.reasons)
    assert any("of the 94 questions in all the pass rate is lower by 63.8%" in reason for reason in result.reasons)
    assert checked(of((34, RIGHT)), of((34, RIGHT), (60, RIGHT))).passed
    assert checked(of((34, RIGHT)), of((34, RIGHT), (4, RIGHT))).passed  # that new ones are few is no objection


@pytest.mark.parametrize(("cut", "passed"), [(34, False), (12, False), (4, False), (1, True)])
def test_undecided_in_place_of_correct_is_refused(cut: int, passed: bool) -> None:
    result = checked(of((34, RIGHT)), of((cut, CUT), (34 - cut, RIGHT)))
    assert result.passed is passed
    assert passed or any("correct share" in reason for reason in result.reasons)


@pytest.mark.parametrize(
    ("row", "measures"),
    [
        (CUT, {"undecided share", "truncated share", "share without an answer", "correct share"}),
        (Row(None), {"share without an answer", "correct share", "undecided share"}),
        (Row("1", gold=None), {"undecided share", "correct share"}),
        (Row("1", tokens=50), {"mean of tokens a response"}),
        (Row("1", rationale="because " * 40), {"mean of characters a rationale"}),
        (Row("1", rationale="so"), {"mean of characters a rationale"}),
    ],
)
def test_new_rows_that_differ_in_one_way_are_refused_for_it(row: Row, measures: set[str]) -> None:
    result = checked(of((40, RIGHT)), of((40, RIGHT), (40, row)), overall=1)
    refused = {each.measure for each in result.checks if not each.passed and each.part == "new questions"}
    assert refused == measures
    assert checked(of((40, RIGHT)), of((40, RIGHT), (40, row)), overall=1, new=1, lengths=100).passed


def test_a_length_that_was_nothing_and_is_something_is_a_change_without_bound() -> None:
    silent = Row("1", rationale="")
    result = checked(of((40, silent)), of((40, RIGHT)), lengths=100)
    assert "the mean of characters a rationale of the shared questions was 0 and is 16.0" in result.reasons[0]
    assert checked(of((40, silent)), of((40, silent))).passed
    assert checked(of((40, silent)), of((39, silent), (1, RIGHT))).passed  # the interval holds 0
    assert json.loads(json.dumps(result.as_json(), allow_nan=False))["passed"] is False
    [row] = [row for row in gate_rows(result.checks) if row["check"].endswith("rationale, shared questions")]
    assert (row["before"], row["now"], row["difference"], row["verdict"]) == ("0.0", "16.0", "–", "refused")


def test_failed_requests_count_by_themselves() -> None:
    result = checked(of((34, RIGHT)), of((34, RIGHT), failed=4), failures=0.2)
    assert check(result, "whole dataset", "failed requests").passed  # 4 of 38
    assert result.reasons == ["4 of 4 requests about new questions failed, more than gate.failures = 0.2 allows"]
    assert checked(of((34, RIGHT)), of((35, RIGHT), failed=0)).passed


@pytest.mark.parametrize("shared", [0, 1, 5])
def test_few_shared_questions_do_not_pass_by_being_few(shared: int) -> None:
    result = checked(of((100, RIGHT)), of((100, RIGHT), first=100 - shared))
    rate = check(result, "shared questions", "pass rate")
    assert not rate.passed and rate.questions == shared
    assert rate.difference.high - rate.difference.low > 2 * 0.15
    assert checked(of((100, RIGHT)), of((100, RIGHT), first=100 - shared), margin=1, missing=1).passed


def test_a_dataset_that_lost_most_of_its_questions_is_refused() -> None:
    """As of a file that was cut: what is left of it is as it was."""
    result = checked(of((94, RIGHT)), of((30, RIGHT)))
    assert result.reasons == [
        "64 of the 94 old questions are not in the new dataset, more than gate.missing = 0.2 allows"
    ]
    assert checked(of((94, RIGHT)), of((90, RIGHT))).passed


def test_a_limit_of_the_recipe_decides_and_allow_raises_all() -> None:
    old, new = of((100, RIGHT)), of((80, RIGHT), (20, WRONG))
    assert not checked(old, new).passed
    assert checked(old, new, shared=0.2, overall=0.2).passed
    assert gate(diff(old, new), 0.2).passed and not gate(diff(old, new), 0.05).passed
    loosened = Gate(new=0.5).loosened(0.2)
    assert (loosened.shared, loosened.new, loosened.margin) == (0.2, 0.5, Gate().margin)
    assert Gate().identity() == {}  # it changes no data


def test_every_check_is_in_the_json_with_its_verdict() -> None:
    values = checked(of((30, RIGHT)), of((30, RIGHT), (1, WRONG))).as_json()
    parts = {each["part"] for each in values["checks"]}
    assert parts == {"shared questions", "whole dataset", "new questions"}
    for each in values["checks"]:
        assert each["passed"] is (each["reason"] is None)
        assert each["low"] is None or math.isfinite(each["low"])
