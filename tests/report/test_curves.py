"""The figure of a stage that trains: a curve for each measure that has points."""

import re
from xml.etree import ElementTree

import pytest

from cohobate.report.curves import draw_curves


@pytest.mark.slow
def test_each_measure_has_a_curve_of_its_own() -> None:
    points = {
        "loss": [(step, 1 / step) for step in range(1, 2001)],
        "accuracy": [(0, 0.1), (50, 0.4)],
        "grad_norm": [(1, 1.0)],
    }
    figure = draw_curves(points)
    ElementTree.fromstring(figure)  # a file of its own
    assert re.findall(r">(loss|reverse KL|accuracy)<", figure) == ["loss", "accuracy"]
    assert "%" in figure and len(figure) < 100_000


def test_without_points_there_is_no_figure() -> None:
    assert draw_curves({}) == draw_curves({"loss": []}) == ""
