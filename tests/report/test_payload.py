"""The rows of a dataset page, unpacked again, and hostile texts."""

from typing import Any

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from cohobate.report.payload import blocks, labels
from cohobate.report.sample_rows import COLUMNS
from tests.support.dataset_pages import HOSTILE, unpacked

words = st.text(max_size=12)
maybe = st.none() | words
packable = st.fixed_dictionaries(
    {"question": words, "question_id": words, "response": maybe, "rationale": maybe, "answer": maybe, "gold": maybe,
     "verdict": st.none() | st.sampled_from(["correct", "incorrect"]), "reason": maybe, "sample_id": words}
)  # fmt: skip


@given(st.lists(packable, max_size=6))
@example([dict.fromkeys(("question", "question_id", "sample_id"), "") | {"response": text} for text in HOSTILE])
def test_every_text_comes_out_of_the_page_as_it_went_in(made: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame([dict.fromkeys(COLUMNS) | row for row in made], schema=COLUMNS)
    known = labels(frame)
    packed = list(blocks(frame, known))
    found = list(unpacked(packed, known))
    names = ["question", "response", "rationale", "answer", "gold", "verdict", "reason", "sample_id"]
    expected = [{name: row.get(name) for name in names} for row in made]
    assert [{name: row.get(name) for name in names} for row in found] == expected
