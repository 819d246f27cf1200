"""The exact verifier: the same answer in other characters, other answers, and gold that decides nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config.triples import VERIFIERS as NAMES
from cohobate.core.answer_text import exactly, normalise
from cohobate.evaluation.verifiers.exact import EXACT
from cohobate.evaluation.verifiers.kinds import VERIFIERS
from cohobate.evaluation.verifiers.verdict import Case, Verdict

CORRECT = Verdict("correct")
WRONG = Verdict("incorrect", "another answer")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("42", "42"),
        ("1,000", "1000"),
        ("1,234,567", "1234567"),
        ("42.", "42"),
        ("42 .", "42"),
        ("$5", "5"),
        ("$1,000.", "1000"),
        (" Paris ", "paris"),
        ("Ada  Lovelace", "ada lovelace"),
        ("５", "5"),  # full-width digit
        ("ﬁve", "five"),  # ligature
        ("cafe\u0301", "café"),
    ],
)
def test_the_same_answer_in_another_dress_is_correct(answer: str, gold: str) -> None:
    assert exactly(answer, gold) and exactly(gold, answer)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("41", "42"),
        ("-5", "5"),
        ("4.2", "42"),
        ("1.000", "1000"),
        ("12", "1,2"),  # the two solutions 1 and 2
        ("(12)", "(1,2)"),
        ("5 cm", "5"),  # exact is exact: units and fractions are another verifier's
        ("1/2", "0.5"),
        ("", "5"),
        ("5 6", "56"),
    ],
)
def test_another_answer_is_not_correct(answer: str, gold: str) -> None:
    assert not exactly(answer, gold) and not exactly(gold, answer)


@pytest.mark.parametrize(
    ("answer", "gold", "truncated", "verdict"),
    [
        ("5", "5", False, CORRECT),
        ("5", "5", True, CORRECT),  # cut after the answer: it stands
        ("6", "5", False, WRONG),
        ("6", "5", True, WRONG),
        (None, "5", False, Verdict("undecided", "no final answer")),
        (None, "5", True, Verdict("undecided", "truncated")),
        ("5", None, False, Verdict("undecided", "no gold answer")),
        (None, None, True, Verdict("undecided", "no gold answer")),
    ],
)
def test_a_verdict_is_correct_incorrect_or_undecided(
    answer: str | None, gold: str | None, truncated: bool, verdict: Verdict
) -> None:
    assert EXACT.verdict(Case(answer, gold, truncated)) == verdict


@pytest.mark.parametrize("gold", ["", "  ", "proof", "Proof", "NOTFOUND", " not found ", "None", "N/A"])
def test_a_gold_answer_that_is_none_decides_nothing(gold: str) -> None:
    assert EXACT.verdict(Case(gold, gold, False)) == Verdict("undecided", "unusable gold answer")


@given(st.none() | st.text(), st.none() | st.text(), st.booleans())
def test_any_text_gets_a_verdict_with_a_reason_unless_correct(
    answer: str | None, gold: str | None, truncated: bool
) -> None:
    verdict = EXACT.verdict(Case(answer, gold, truncated))
    assert verdict.label in ("correct", "incorrect", "undecided")
    assert (verdict.reason is None) == (verdict.label == "correct")


@given(st.text(), st.booleans())
def test_a_gold_answer_is_accepted_or_refused_but_never_wrong(gold: str, truncated: bool) -> None:
    assert EXACT.verdict(Case(gold, gold, truncated)).label != "incorrect"


@given(st.integers())
def test_thousands_may_be_grouped(number: int) -> None:
    assert EXACT.verdict(Case(f"{number:,}", str(number), False)) == CORRECT


@given(st.integers(), st.integers())
def test_different_integers_are_different_answers(a: int, b: int) -> None:
    assert exactly(str(a), str(b)) == (a == b)


@given(st.text("0123456789,. $abAB\t"))
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_every_name_that_a_recipe_may_give_has_its_verifier() -> None:
    assert set(VERIFIERS) == set(NAMES)
