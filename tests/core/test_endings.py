"""The endings of responses in the styles of many model families, as a table: every one is read as its label says."""

import re
import time
from collections import Counter
from typing import Any

import pytest

from cohobate.core.answer_parsing import after_thinking, parse
from tests.support.tables import read_table

ENDINGS = read_table("endings")
MARKS = re.compile(
    r"</?think|\[/?THINK\]|<\|channel|<\|message|<\|(?:START|END)_|◁|<seed:|<\|(?:begin|end)_of_(?:t|s)|<\|im_"
)


def test_the_table_is_as_large_as_it_says() -> None:
    families = Counter(row["family"] for row in ENDINGS)
    assert len(ENDINGS) >= 590 and len(families) >= 30
    assert len({row["id"] for row in ENDINGS}) == len(ENDINGS)
    without = sum(row["answer"] is None for row in ENDINGS)
    assert 90 <= without <= 130


@pytest.mark.parametrize("row", ENDINGS, ids=lambda row: row["id"])
def test_an_ending_is_read_as_its_label_says(row: dict[str, Any]) -> None:
    parsed = parse(row["text"], row.get("reasoning"))
    assert parsed.answer == row["answer"]
    if "rationale_has" in row:
        assert row["rationale_has"] in (parsed.rationale or "")
    if "rationale_source" in row:
        assert parsed.rationale_source == row["rationale_source"]
    for part in (parsed.rationale, parsed.answer, after_thinking(row["text"])):
        assert not MARKS.search((part or "").replace("`<think>`", ""))


UNITS = [
    *("*", "\\boxed{", "\\boxed{5}", "\\boxed{5} and ", "<think>", "</think>", "<think></think>"),
    *("<answer>", "</answer>", "Answer:", "Answer:\n", "The answer is ", "the answer is not ", "answer of "),
    *("answer, ", "answer (", "5 is the answer. ", "Answer: \\(", "Answer: $$", "answer is `", "####", "#### 5\n"),
    *('"answer": [', "答案", "答え", "정답은", "final ", "<|channel|>", "<|channel|>analysis<|message|>", "[THINK]"),
    *("analysis", "Option A is correct ", "故选A", "- ", "> ", "\n", " ", "{", "}", "\\", "(", "|", "$", "`", "Mr. "),
    *("A. ", "...", "!", "Answer:\n- ", "Answer:\n```"),
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_a_text_of_a_megabyte_is_read_in_seconds(unit: str) -> None:
    text = "Answer: 5\n" + unit * (1_000_000 // len(unit))
    began = time.process_time()
    parse(text)
    # 10 to 100 times what it takes; quadratic time would be hours.
    assert time.process_time() - began < 20
