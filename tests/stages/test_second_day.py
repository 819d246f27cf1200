"""The second day of a nightly recipe, in full: its FLOPs against a full run, its student, and the gate."""

from pathlib import Path

import pytest

from benchmarks import nights
from cohobate.config.load import load_recipe

SIZE = [
    *("runtime.threads=1", "questions.train=800", "questions.fresh=6144", "questions.test=1500", "sft.steps=160"),
    *("opd.steps=96", "opd.prompts=64", "sft.evaluate_questions=100", "opd.evaluate_questions=100"),
    *("evaluation.decodings=['greedy']", "evaluation.splits=['test']"),
]


@pytest.mark.long
@pytest.mark.trains
@pytest.mark.timeout(3600)
def test_a_tenth_more_questions_cost_a_quarter_of_a_full_run_at_most_and_the_student_is_not_worse(
    tmp_path: Path,
) -> None:
    """One of the seeds of docs/results.md: of a lone seed the interval is that of its questions, paired."""
    second = nights.compare(load_recipe("arithmetic", SIZE), tmp_path, seed=1, share=0.1)
    assert second.passed, second.objections
    assert second.ratio < 0.25
    assert second.difference.high > 0 and second.difference.low > -0.03
