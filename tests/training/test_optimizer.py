"""The learning rate of a step, by the formulae of its schedules."""

import math

import pytest

from cohobate.config import Training
from cohobate.training.optimizer import lr_factor


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_linearly_over_the_warm_up(schedule: str) -> None:
    told = Training(steps=20, warmup=4, schedule=schedule)
    assert [lr_factor(step, told) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("schedule", "quarter"),
    [("cosine", 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2), ("linear", 0.8), ("constant", 1.0)],
)
def test_the_rate_falls_to_its_floor_by_the_formula(schedule: str, quarter: float) -> None:
    told = Training(steps=104, warmup=4, schedule=schedule, min_lr_ratio=0.2)
    assert lr_factor(4, told) == 1
    assert lr_factor(29, told) == pytest.approx(quarter)
    assert lr_factor(54, told) == pytest.approx(1 if schedule == "constant" else 0.6)
    assert lr_factor(104, told) == pytest.approx(1 if schedule == "constant" else 0.2)
