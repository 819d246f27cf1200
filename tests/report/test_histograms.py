"""Histograms and counted lists against loops over the values."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from cohobate.report.histograms import bars, histogram


@given(st.lists(st.integers(-5, 400) | st.none(), min_size=1))
def test_a_histogram_counts_every_value_once_between_its_edges(values: list[int | None]) -> None:
    found = histogram("x", "y", pl.Series(values, dtype=pl.Int32))
    known = [value for value in values if value is not None]
    if found is None:
        assert not known
        return
    assert found.n == len(known) == sum(each.count for each in found.bins)
    assert len(found.bins) <= 60
    for at, each in enumerate(found.bins):
        last = at == len(found.bins) - 1
        inside = [v for v in known if each.low <= v and (v < each.high or (last and (found.more or v == each.high)))]
        assert each.count == len(inside)
    assert max(each.height for each in found.bins) == 100


def test_pass_rates_fall_into_twentieths() -> None:
    rates = [k / 20 for k in range(21)]
    found = histogram("x", "y", pl.Series([*rates, None]), width=0.05)
    assert found is not None and [each.count for each in found.bins] == [1] * 19 + [2]


def test_a_long_tail_is_one_bin_and_a_long_list_has_a_rest() -> None:
    found = histogram("x", "y", pl.Series([*range(1000), 10**6]))
    assert found is not None and found.more and len(found.bins) < 60 and found.bins[-1].low < 1100
    listed = bars([(str(n), 1) for n in range(20)], most=12)
    assert (len(listed), listed[-1].label, listed[-1].count) == (13, "8 others", 8)
