"""Batches hold every token once within their budget, and the learning rate follows its schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Training
from cohobate.models.batching import Padded, batches
from cohobate.models.sequence import TrainingSequence
from cohobate.training.optimizer import lr_factor

shapes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(shapes, st.integers(1, 60))
def test_batches_hold_every_response_token_once_within_the_budget(shapes: list[tuple[int, int]], budget: int) -> None:
    made = []
    for i, (context, response) in enumerate(shapes):
        ids = [100 * i + t for t in range(context + response)]
        made.append(TrainingSequence(ids, context, {"teacher_logprobs": torch.tensor(ids[context:])}))
    found: list[int] = []
    for batch in batches(made, budget, -1, "cpu"):
        layout = batch.layout
        assert isinstance(layout, Padded)
        assert layout.inputs.numel() <= budget or len(layout.inputs) == 1
        ids = batch.tokens.ids.tolist()
        # Each token is predicted from the one before it in its own row, and keeps what is known of it.
        assert layout.inputs[layout.rows, layout.columns].tolist() == [token - 1 for token in ids]
        assert [batch.order[row] for row in layout.rows.tolist()] == [token // 100 for token in ids]
        assert batch.tokens.teacher_logprobs is not None
        assert batch.tokens.teacher_logprobs.tolist() == ids
        found += ids
    assert sorted(found) == [token for row in made for token in row.response]


widths = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@given(widths, st.integers(50, 2000))
def test_a_batch_takes_no_row_that_would_be_mostly_padding(widths: list[int], budget: int) -> None:
    """A row more than a tenth shorter than the widest enters only while the batch is less than a quarter full."""
    made = [TrainingSequence(list(range(width + 1)), 1) for width in widths]
    cut = list(batches(made, budget, -1, "cpu"))
    assert sum(len(batch.order) for batch in cut) == len(widths)
    for batch in cut:
        lengths = [len(made[i].ids) - 1 for i in batch.order]
        assert lengths == sorted(lengths, reverse=True)
        short = [place for place, length in enumerate(lengths) if 10 * length < 9 * lengths[0]]
        assert all(4 * place * lengths[0] < budget for place in short)


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
