"""Batches hold every token once within their budget, and little padding."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from cohobate.models.batching import Padded, batches
from cohobate.models.sequence import TrainingSequence

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
