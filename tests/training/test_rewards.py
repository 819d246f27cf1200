"""What a rollout is rewarded with, by its verdict."""

import pytest

from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, NO_FINAL_ANSWER, TRUNCATED, Verdict
from cohobate.training.rollout_source import reward_of


@pytest.mark.parametrize(
    ("verdict", "reward"),
    [
        (CORRECT, 1.0),
        (ANOTHER, 0.0),
        (NO_FINAL_ANSWER, 0.0),  # it ended, and said nothing
        (TRUNCATED, None),
        (Verdict("undecided", "no gold answer"), None),
        (Verdict("undecided", "a rounded value"), None),
    ],
)
def test_a_right_answer_is_worth_one_and_no_verdict_nothing_known(verdict: Verdict, reward: float | None) -> None:
    assert reward_of(verdict) == reward
