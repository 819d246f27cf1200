"""Lists, sets, pairs, intervals, equations, times: what is the same, what is not, and what is not decided."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.evaluation.mathematics.quantities import read_number
from cohobate.evaluation.mathematics.structure_comparison import same
from cohobate.evaluation.mathematics.structure_reading import structure
from cohobate.evaluation.mathematics.tree import UnreadError
from cohobate.evaluation.mathematics.units import unit


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("[1, 2, 3]", "(1, 2, 3)", None),
        ("[1, 2]", "(1, 2)", False),
        ("\\langle 1, 2 \\rangle", "(1, 2)", None),
        ("(p, q) = (3, 2)", "(3,2)", True),
        ("x = 1, x = 2", "x = 2, x = 1", True),
        ("1, 2", "2, 1", None),
        ("1 \\text{ or } 2", "2, 1", None),
        ("\\{1, 2\\}", "1 or 2", True),
        ("\\{x \\mid x > 2\\}", "(2, \\infty)", True),
        ("\\mathbb{R} \\setminus \\{1\\}", "x \\neq 1", True),
        ("x < 1", "y < 1", None),
        ("3x > 6", "x > 2", True),
        ("-3x > 6", "x > -2", False),
        ("-3x > 6", "x < -2", True),
        ("x + y = 3", "y + x - 3 = 0", True),
        ("x + y = 3", "x + y = 4", False),
        ("x + y + z = z + 3", "x + y = 3", True),
        ("x^3 = 8", "x = 2", None),  # the same real solution, and two more
        ("x^2 = 4", "x = 2", False),
        ("f(x) = 2x", "f(x) = x + x", True),
        ("AB = 4", "4", True),
        ("|AB| = 4", "5", False),
        ("3:30 pm", "15:30", True),
        ("3:30 pm", "3:30", None),
        ("2:40", "1:20", None),  # a ratio, or times
        ("1:2:3", "2:4:6", True),
        ("5 \\pi \\text{ cm}", "5 \\pi", True),
        ("5 \\pi \\text{ m}", "500 \\pi \\text{ cm}", True),
        ("5 \\pi \\text{ m}", "5 \\pi \\text{ cm}", False),
        ("\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\begin{bmatrix} 1 & 2 \\end{bmatrix}", True),
        ("AB", "BA", None),
        ("no real solutions", "\\{\\}", True),
    ],
)
def test_structures_are_the_same_or_not(first: str, second: str, expected: bool | None) -> None:
    assert same(structure(first), structure(second)) is expected
    if expected is not None:
        assert same(structure(second), structure(first)) is expected


@pytest.mark.parametrize(
    "text", ["1, 2, \\ldots", "\\geq 5", "a < b > c", "\\vec{a} \\times \\vec{b}", "{1,000}", "x <"]
)
def test_what_is_not_understood_is_not_read(text: str) -> None:
    with pytest.raises(UnreadError):
        structure(text)


SMALL = st.integers(-9, 9)
FACTORS = st.sampled_from([-3, -2, -1, 2, 5])


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, SMALL, FACTORS, st.integers(1, 9))
def test_a_multiple_of_an_equation_is_the_same_and_another_constant_is_not(
    a: int, b: int, c: int, factor: int, step: int
) -> None:
    text = f"{a}x + ({b})y = {c}"
    multiple = f"{a * factor}x + ({b * factor})y - ({c * factor}) = 0"
    other = f"{a * factor}x + ({b * factor})y = {(c + step) * factor}"
    if a or b:
        assert same(structure(multiple), structure(text)) is True
        assert same(structure(other), structure(text)) is False


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, st.integers(1, 9), st.integers(1, 9))
def test_circles_are_told_apart(a: int, b: int, r: int, s: int) -> None:
    circle = f"(x - ({a}))^2 + (y - ({b}))^2 = {r}"
    expanded = f"x^2 + y^2 - ({2 * a})x - ({2 * b})y + {a * a + b * b} = {s}"
    assert same(structure(expanded), structure(circle)) is (r == s)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fractions(max_denominator=99), min_size=1, max_size=5, unique=True), st.randoms())
def test_a_set_has_no_order_and_a_pair_has_one(values: list[Fraction], random: object) -> None:
    decimal = [f"\\frac{{{value.numerator}}}{{{value.denominator}}}" for value in values]
    backwards = [f"{value}" for value in reversed(values)]
    sets = [f"\\{{{', '.join(items)}\\}}" for items in (decimal, backwards)]
    tuples = [f"({', '.join(items)})" for items in (decimal, backwards)]
    assert same(structure(sets[0]), structure(sets[1])) is True
    if len(values) > 1:
        assert same(structure(tuples[0]), structure(tuples[1])) is False


@given(st.integers(0, 10**6), st.integers(1, 59))
def test_hours_and_minutes_are_minutes(hours: int, minutes: int) -> None:
    compound = read_number(f"{hours} hours and {minutes} min")
    assert compound is not None and compound.value == 60 * hours + minutes


@pytest.mark.parametrize(
    ("words", "dimension", "factor"),
    [
        ("cm", "length", "1/100"),
        ("square metres", "length^2", "1"),
        ("km^2", "length^2", "1000000"),
        ("km/h", "length/time", "5/18"),
        ("miles per hour", "length/time", "1397/3125"),
        ("m/s^2", "length/time^2", "1"),
        ("dollars", "USD", "1"),
        ("cents", "USD", "1/100"),
        ("apples", None, "1"),
        ("x", None, "1"),
    ],
)
def test_units_are_known_by_dimension_and_factor(words: str, dimension: str | None, factor: str) -> None:
    assert (unit(words).dimension, unit(words).factor) == (dimension, Fraction(factor))
