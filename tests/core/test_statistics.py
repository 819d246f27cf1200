"""Intervals against published tables and the formulae of their papers."""

import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.statistics import Interval, over_seeds, paired, shares_over_seeds, welch, wilson

# scipy.stats.ttest_ind(A, B, equal_var=False): difference -5.4133, 4.14 degrees of freedom; with 4 of them the half
# width is scipy.stats.t.ppf(0.975, 4) = 2.7764 times the standard error 3.0918.
A, B = [27.5, 21.0, 19.0, 23.6, 17.0], [30.1, 22.1, 28.9]


def test_wilsons_interval_has_its_closed_form() -> None:
    # Wilson (1927): centre (p + z^2 / 2n) / (1 + z^2 / n); by hand for 12 of 30 with z = 1.959964.
    assert astuple(wilson(12, 30)) == pytest.approx((0.4, 0.245907, 0.576801), abs=1e-5)
    assert wilson(30, 30).high == 1.0 and wilson(0, 30).low == 0.0


def test_a_share_of_nothing_has_every_value() -> None:
    none = wilson(0, 0)
    assert math.isnan(none.mean) and (none.low, none.high) == (0.0, 1.0)
    assert none.as_row("accuracy") == {"accuracy": None, "low": 0.0, "high": 1.0}


def test_the_paired_interval_is_agresti_and_mins() -> None:
    # Their table of 1600 voters (Agresti and Min 2005, section 1): 794, 150, 86, 570.
    n, b, c = 1600, 150, 86
    differences = [-1.0] * b + [1.0] * c + [0.0] * (n - b - c)
    interval = paired(differences)
    # Wald with a half added to each of the four cells.
    b2, c2, n2 = b + 0.5, c + 0.5, n + 2
    spread = 1.959964 * math.sqrt((b2 + c2) - (c2 - b2) ** 2 / n2) / n2
    assert interval.mean == pytest.approx((c - b) / n)
    assert (interval.low, interval.high) == pytest.approx(((c2 - b2) / n2 - spread, (c2 - b2) / n2 + spread))


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), max_size=30))
def test_a_paired_interval_has_a_width_and_holds_the_mean_or_zero(differences: list[float]) -> None:
    mean, low, high = astuple(paired(differences))
    assert -1 <= low < high <= 1
    assert low <= max(mean, 0) and min(mean, 0) <= high
    assert astuple(paired([-d for d in differences])) == pytest.approx((-mean, -high, -low))


def test_the_interval_over_seeds_is_students() -> None:
    # scipy.stats.t.interval(0.95, 2, loc=mean, scale=sem)
    assert astuple(over_seeds([0.8, 0.82, 0.87])) == pytest.approx((0.83, 0.740433, 0.919567), abs=1e-4)


def test_runs_with_one_share_have_the_interval_of_their_questions() -> None:
    # binom.test(0, 48) of R's package binom, method wilson: 0 to 0.0741
    assert astuple(shares_over_seeds([0.0, 0.0], 48)) == pytest.approx((0.0, 0.0, 0.0741), abs=1e-4)
    assert shares_over_seeds([0.1, 0.1, 0.1], 30) == wilson(3, 30)
    assert shares_over_seeds([0.8, 0.82, 0.87], 100) == over_seeds([0.8, 0.82, 0.87])
    assert not shares_over_seeds([0.5], 30).bounded


def test_the_interval_of_a_difference_is_welchs() -> None:
    difference, low, high = astuple(welch(A, B))
    assert difference == pytest.approx(-5.41333, abs=1e-4)
    assert high - difference == pytest.approx(8.5840, abs=2e-3) == difference - low


def test_single_runs_and_equal_runs_have_their_limits() -> None:
    assert welch([1.0], [2.0, 3.0]) == Interval(-1.5, -math.inf, math.inf)
    assert welch([1.0, 1.0], [3.0, 3.0]) == Interval(-2.0, -2.0, -2.0)


def test_means_over_seeds_have_students_interval() -> None:
    interval = over_seeds([0.8, 0.9, 1.0])
    # 0.1 / sqrt(3) times the t quantile of two degrees of freedom, 4.303
    assert astuple(interval) == pytest.approx((0.9, 0.9 - 0.24843, 0.9 + 0.24843), abs=1e-4)
    assert over_seeds([0.5]) == Interval(0.5, -math.inf, math.inf)


def test_a_row_holds_an_interval_and_none_where_there_is_none() -> None:
    for interval in (wilson(12, 30), over_seeds([0.5])):
        assert Interval.from_row(interval.as_row("accuracy"), "accuracy") == interval
    assert over_seeds([0.5]).as_row() == {"mean": 0.5, "low": None, "high": None}


def test_an_increasing_function_keeps_the_bounds_in_order() -> None:
    assert over_seeds([0.5]).map(math.exp) == Interval(math.exp(0.5), 0.0, math.inf)
    assert not over_seeds([0.5]).map(math.exp).bounded
