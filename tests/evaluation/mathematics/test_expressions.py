"""Expressions are read wholly or not at all; their values are those that Python and sympy compute."""

from fractions import Fraction
from typing import NamedTuple

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from cohobate.evaluation.mathematics.arithmetic import UndefinedError
from cohobate.evaluation.mathematics.expressions import read
from cohobate.evaluation.mathematics.tree import UnknownError, UnreadError
from cohobate.evaluation.mathematics.values import equal, evaluate


class Written(NamedTuple):
    """LaTeX, its value, and how tightly it holds together: 1 a sum, 2 a product, 3 one thing."""

    text: str
    value: Fraction
    tight: int


def numbers() -> st.SearchStrategy[Written]:
    whole = st.integers(0, 99).map(lambda n: Written(str(n), Fraction(n), 3))
    decimals = st.integers(1, 999).map(lambda n: Written(f"{n // 10}.{n % 10}", Fraction(n, 10), 3))
    parts = st.tuples(st.integers(1, 9), st.integers(1, 9))
    fractions = parts.map(lambda p: Written(f"\\frac{{{p[0]}}}{{{p[1]}}}", Fraction(*p), 3))
    return st.one_of(whole, decimals, fractions)


def combined(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    def grouped(written: Written, least: int) -> str:
        return written.text if written.tight >= least else f"\\left({written.text}\\right)"

    def combine(parts: tuple[str, Written, Written]) -> Written:
        operator, a, b = parts
        if operator == "+":
            return Written(f"{a.text} + {b.text}", a.value + b.value, 1)
        if operator == "-":
            return Written(f"{a.text} - {grouped(b, 2)}", a.value - b.value, 1)
        if operator == "/" and b.value:
            return Written(f"\\dfrac{{{a.text}}}{{{b.text}}}", a.value / b.value, 3)
        if operator == "^":
            return Written(f"{{({a.text})}}^{{2}}", a.value**2, 3)
        return Written(f"{grouped(a, 2)} \\cdot {grouped(b, 3)}", a.value * b.value, 2)

    return st.tuples(st.sampled_from("+-*/^"), inner, inner).map(combine)


WRITTEN = st.recursive(numbers(), combined, max_leaves=8)


@settings(deadline=None)
@given(WRITTEN)
def test_arithmetic_has_the_value_that_python_computes(written: Written) -> None:
    text = written.text.replace("\\left", "").replace("\\right", "")
    assert evaluate(read(text)) == written.value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.lists(st.integers(-9, 9), min_size=1, max_size=3))
def test_polynomials_are_equal_where_sympy_says_so(first: list[int], second: list[int]) -> None:
    x = sympy.Symbol("x")
    p, q = (sum(c * x**n for n, c in enumerate(coefficients)) for coefficients in (first, second))
    product = f"({sympy.latex(p)})({sympy.latex(q)})"
    expanded = sympy.latex(sympy.expand(p * q))
    assert equal(read(product), read(expanded)) is True
    assert equal(read(product), read(f"{expanded} + \\frac{{1}}{{1000}}")) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\sqrt{2}\\sqrt{3}", sympy.sqrt(6)),
        ("\\sqrt[3]{-8}", sympy.Integer(-2)),
        ("2^{1/2}", sympy.sqrt(2)),
        ("e^{2}", sympy.exp(2)),
        ("\\ln 2", sympy.log(2)),
        ("\\log_2 10", sympy.log(10, 2)),
        ("\\sin^2 1", sympy.sin(1) ** 2),
        ("\\sin^{-1} 1", sympy.pi / 2),
        ("\\tan 30^\\circ", sympy.tan(sympy.pi / 6)),
        ("\\binom{5}{2}", sympy.Integer(10)),
        ("|2-\\pi|", sympy.pi - 2),
        ("\\lfloor -3.5 \\rfloor", sympy.Integer(-4)),
        ("\\gcd(12, 18)", sympy.Integer(6)),
        ("3!!", sympy.Integer(720)),
        ("2\\frac{1}{3}", sympy.Rational(7, 3)),
        ("1 1/2", sympy.Rational(3, 2)),
        ("101_2", sympy.Integer(5)),
        ("2^{3^2}", sympy.Integer(512)),
        ("-3^2", sympy.Integer(-9)),
        ("\\frac12", sympy.Rational(1, 2)),
        ("50\\%", sympy.Rational(1, 2)),
        ("(1+i)(1-i)", sympy.Integer(2)),
    ],
)
def test_the_value_is_that_of_sympy(text: str, value: sympy.Expr) -> None:
    assert abs(complex(evaluate(read(text))) - complex(value.evalf(30))) < 1e-14


UNREAD = [
    "1/2x",
    "2\\frac{5}{3}",
    "3 4",
    "(1",
    "\\frac{1",
    "x'",
    "f(x)",
    "1e-5x",
    "2020-01-01",
    "apples",
    "AB",
    "1 + ",
    "",
    "=5",
]
UNKNOWN = ["\\int x", "\\clubsuit", "x \\oplus y", "\\frac{d}{dx} x^2", "\\vec{a}"]


@pytest.mark.parametrize("text", UNREAD)
def test_what_is_torn_off_or_has_two_meanings_is_not_read(text: str) -> None:
    with pytest.raises(UnreadError):
        read(text)


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_the_grammar_does_not_know_may_be_read_by_another(text: str) -> None:
    with pytest.raises(UnknownError):
        read(text)


@pytest.mark.parametrize(
    "text", ["9^{9^{9^9}}", "100!!", "10^{10^{10}}", "e^{e^{e^{10}}}", "\\sin(10^{40})", "1/0", "0^0"]
)
def test_what_has_no_value_in_a_bounded_time_has_none(text: str) -> None:
    with pytest.raises(UndefinedError):
        evaluate(read(text))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("10^{-40}", "0", False),
        ("10^{-90} \\pi", "0", None),  # less than is computed
        ("\\sqrt{x^2}", "x", None),  # equal for positive numbers only
        ("(-1)^n", "\\cos(n \\pi)", None),  # equal for whole numbers only
        ("\\log 100", "2", None),  # the base is not named
        ("\\log 8", "3 \\log 2", True),
        ("\\log 8", "4 \\log 2", False),
    ],
)
def test_what_depends_on_what_is_meant_is_not_decided(first: str, second: str, expected: bool | None) -> None:
    assert equal(read(first), read(second)) is expected


@given(st.text("0123456789xyein+-*/^(){}[]|!,.=<>\\ fracsqtpi", max_size=60))
def test_any_text_is_read_or_not(text: str) -> None:
    try:
        node = read(text)
    except UnreadError:
        return
    assert equal(node, node) in (True, None)
