"""The numeric verifier: numbers in every notation, compared exactly or within a tolerance."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.config import Verification
from cohobate.evaluation.mathematics.quantities import read_number
from cohobate.evaluation.verifiers.numeric import compare
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("-5", -5),
        ("−5", -5),  # a typographic minus
        ("+7", 7),
        ("1,234.5", Fraction("1234.5")),
        ("$1,000", 1000),
        ("\\$5", 5),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("3/4", Fraction(3, 4)),
        ("-3 / 4", Fraction(-3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("½", Fraction(1, 2)),
        ("1½", Fraction(3, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac34", Fraction(-3, 4)),
        ("2\\frac{1}{3}", Fraction(7, 3)),
        ("6.02e23", 602 * 10**21),
        ("1.5 × 10^3", 1500),
        ("2 \\times 10^{-2}", Fraction(1, 50)),
        ("3·10²", 300),
        ("x = 5", 5),
        ("≈ 3.14", Fraction("3.14")),
        ("**8**", 8),
        ("12%", 12),
        ("5 cm", 5),
        ("5 km/h", 5),
        ("9.81 m/s^2", Fraction("9.81")),
        ("\\text{12 apples}", 12),
        ("90°", 90),
        ("12 \\text{ dollars}", 12),
        ("2pi", None),
        ("2x", None),
        ("5 or 6", None),
        ("1,2", None),
        ("12,34", None),
        ("1/0", None),
        ("3 4", None),
        ("five", None),
        ("(1, 2)", None),
        ("1e999999999", None),
        ("9" * 300, None),
        ("", None),
    ],
)
def test_the_number_that_an_answer_is(text: str, value: Fraction | int | None) -> None:
    found = read_number(text)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("answer", "gold", "label"),
    [
        ("0.5", "1/2", "correct"),
        ("50%", "0.5", "correct"),
        ("50", "50%", "correct"),
        ("0.5%", "50%", "incorrect"),
        ("1000000", "1000001", "incorrect"),  # integers are equal or not, whatever the tolerance
        ("1000000.0", "1000000.5", "correct"),  # 5e-7
        ("999999.0", "1000001.0", "incorrect"),  # 2e-6
        ("0.0000005", "0.0", "undecided"),  # no relative difference is small at 0
        ("0", "0.0", "correct"),
        ("0.000002", "0.0", "incorrect"),
        ("5 cm", "5", "correct"),
        ("5 apples", "5 apple", "correct"),
        ("5 cm", "5 m", "incorrect"),
        ("5 cm", "0.05 m", "correct"),
        ("5 apples", "5 pears", "undecided"),
        ("6 cm", "5 m", "incorrect"),
        ("Paris", "5", "undecided"),
        ("5", "Paris", "undecided"),
        ("Paris", "paris", "correct"),
    ],
)
def test_numbers_are_compared_as_numbers(answer: str, gold: str, label: str) -> None:
    [verdict] = verdicts_of(Verification(name="numeric"), [Case(answer, gold)])
    assert verdict.label == label
    assert (verdict.reason is None) == (label == "correct")


@given(st.fractions(max_denominator=10**4), st.fractions(max_denominator=10**4), st.floats(0, 0.5))
def test_fractions_are_equal_within_the_tolerance(a: Fraction, b: Fraction, tolerance: float) -> None:
    whole = a.denominator == b.denominator == 1
    near = a == b if whole else abs(a - b) <= Fraction(tolerance) * (abs(b) or 1)
    assert (compare(str(a), str(b), tolerance).label == "correct") == near


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_a_decimal_is_read_exactly(digits: int, places: int) -> None:
    text = f"{digits:,}" if places == 0 else f"{Decimal(digits).scaleb(-places):f}"
    found = read_number(text)
    assert found is not None and found.value == Fraction(digits, 10**places)


@given(st.text() | st.text("0123456789,./eE+-% {}\\frac×^m", max_size=40))
def test_any_text_is_a_number_or_none(text: str) -> None:
    found = read_number(text)
    assert found is None or isinstance(found.value, Fraction | int)
