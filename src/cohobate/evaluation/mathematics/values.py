"""Compare two expressions by their values: exactly where they are rational, else to 80 digits; with letters at points.

Expressions with letters are compared at rational points: positive, negative and whole ones. Values that differ by
less than they are computed to, or that are equal at some kinds of points only, decide nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from cohobate.evaluation.mathematics.tree import CONSTANTS, Call, Node, Number, Symbol

Value = Any  # a Fraction, or a number of mpmath
_DIGITS = 80
_MOST_BITS = 60_000
_POINTS = 3
# Of exponential and trigonometric functions; larger ones take long.
_LARGEST_ARGUMENT = 10**6
# What a logarithm without a base is to: some number that nobody means.
LOG_BASE = "\\log"
_SAME_DIGITS = 60


class UndefinedError(Exception):
    """The expression has no value there, or none that can be computed in a bounded time."""


@cache
def context() -> Any:
    """The arithmetic of numbers that are not rational."""
    import mpmath

    ctx = mpmath.MPContext()
    ctx.dps = _DIGITS
    return ctx


def symbols(node: Node) -> frozenset[str]:
    """The letters in it; a logarithm without a base holds LOG_BASE."""
    if isinstance(node, Symbol):
        return frozenset() if node.name in CONSTANTS else frozenset({node.name})
    if isinstance(node, Call):
        own = frozenset({LOG_BASE}) if node.name == "log" else frozenset()
        return own.union(*map(symbols, node.args))
    return frozenset()


def evaluate(node: Node, at: Mapping[str, Value] | None = None) -> Value:
    """Its value where letters have the values `at`. Raises UndefinedError."""
    try:
        return _evaluate(node, at or {})
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, ArithmeticError) as error:
        raise UndefinedError(str(error)) from None


def equal(first: Node, second: Node) -> bool | None:
    """Whether two expressions are equal; None where that is not decided."""
    names = sorted(symbols(first) | symbols(second))
    if not names:
        try:
            return same_value(evaluate(first), evaluate(second))
        except UndefinedError:
            return None
    kinds = [same_at(first, second, names, kind) for kind in ("positive", "negative", "whole")]
    decided = {kind for kind in kinds if kind is not None}
    if len(decided) != 1 or kinds[0] is None:
        return None
    same = decided.pop()
    return None if not same and LOG_BASE in names and _same_in_a_base(first, second, names) else same


def _same_in_a_base(first: Node, second: Node, names: list[str]) -> bool:
    """Whether they are equal where logarithms are to 10, or natural."""
    bases = (Fraction(10), context().e)
    for base in bases:
        point: dict[str, Value] = {**points(names, "positive", 1)[0], LOG_BASE: base}
        try:
            if same_value(evaluate(first, point), evaluate(second, point)) is not False:
                return True
        except UndefinedError:
            return True
    return False


def same_at(first: Node, second: Node, names: list[str], kind: str) -> bool | None:
    """Whether they are equal at points of one kind; None where no point decides it."""
    answers = []
    for point in points(names, kind):
        try:
            answers.append(same_value(evaluate(first, point), evaluate(second, point)))
        except UndefinedError:
            continue
        if answers[-1] is False:
            return False
        if len(answers) == _POINTS:
            break
    return True if answers and all(answers) else None


def points(names: list[str], kind: str, count: int = 8) -> list[dict[str, Fraction]]:
    """Points of one kind, the same ones for the same names."""
    rng = random.Random(kind + "/".join(names))
    made = []
    for _ in range(count):
        point = {}
        for name in names:
            if kind == "whole" and name != LOG_BASE:
                value = Fraction(rng.randrange(2, 12))
            else:
                value = Fraction(rng.randrange(20, 400), rng.randrange(23, 97))
                value = -value if kind == "negative" and name != LOG_BASE else value
            point[name] = value
        made.append(point)
    return made


def same_value(first: Value, second: Value) -> bool | None:
    """Whether two values are equal; None where they differ by less than they are computed to."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    ctx = context()
    a, b = inexact(first), inexact(second)
    if ctx.isinf(a) or ctx.isinf(b) or ctx.isnan(a) or ctx.isnan(b):
        return None if ctx.isnan(a) or ctx.isnan(b) else bool(a == b)
    difference, size = abs(a - b), max(abs(a), abs(b))
    if difference > size * ctx.mpf(10) ** -_SAME_DIGITS and difference > ctx.mpf(10) ** -_SAME_DIGITS:
        return False
    if difference <= max(size, 1) * ctx.mpf(10) ** (10 - _DIGITS) and (size > ctx.mpf(10) ** -20 or size == 0):
        return True
    return None if difference <= max(size, 1) * ctx.mpf(10) ** -_SAME_DIGITS else False


def is_real(value: Value) -> bool:
    """Whether it has no imaginary part."""
    return isinstance(value, Fraction) or not isinstance(value, context().mpc) or value.imag == 0


def inexact(value: Value) -> Any:
    """As a number of mpmath."""
    ctx = context()
    if isinstance(value, Fraction):
        return ctx.mpf(value.numerator) / value.denominator
    return value


def _evaluate(node: Node, at: Mapping[str, Value]) -> Value:
    ctx = context()
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Symbol):
        if node.name in CONSTANTS:
            constants = {"pi": ctx.pi, "e": ctx.e, "i": ctx.mpc(0, 1), "oo": ctx.inf}
            value = constants[node.name]
            return +value if node.name in ("pi", "e") else value
        return at[node.name]
    args = [_evaluate(arg, at) for arg in node.args]
    if node.name == "log":
        return ctx.log(inexact(args[0])) / ctx.log(inexact(at[LOG_BASE]))
    if function := _OPERATIONS.get(node.name):
        return function(*args)
    argument = inexact(args[0])
    if not abs(argument) <= _LARGEST_ARGUMENT:
        raise UndefinedError("an argument that is too large")
    return getattr(ctx, _MPMATH[node.name])(argument)


def square_root(value: Fraction) -> Value:
    """Exact where it is rational. value: not negative."""
    return _root(value, Fraction(2))


def _add(a: Value, b: Value) -> Value:
    return a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else inexact(a) + inexact(b)


def _multiply(a: Value, b: Value) -> Value:
    return a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else inexact(a) * inexact(b)


def _divide(a: Value, b: Value) -> Value:
    if b == 0:
        raise UndefinedError("a division by 0")
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else inexact(a) / inexact(b)


def _power(base: Value, exponent: Value) -> Value:
    ctx = context()
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        if base == 0 and exponent <= 0:
            raise UndefinedError("0 to no positive power")
        if exponent.denominator == 1:
            size = max(abs(base.numerator), base.denominator).bit_length()
            if abs(exponent) * size > _MOST_BITS:
                raise UndefinedError("a power that is too large")
            return base**exponent.numerator
        if base > 0:
            return _root(base, Fraction(exponent.denominator), exponent.numerator)
    power, base_ = inexact(exponent), inexact(base)
    if abs(power) * max(1, abs(ctx.log(abs(base_) + 1))) > 10**6:
        raise UndefinedError("a power that is too large")
    if base_ == 0:
        raise UndefinedError("a power of 0")
    return ctx.power(base_, power)


def _root(radicand: Value, degree: Value, times: int = 1) -> Value:
    ctx = context()
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 100:
        raise UndefinedError("a root that is no root")
    n = degree.numerator
    if isinstance(radicand, Fraction):
        if radicand < 0 and n % 2:
            return (
                -_root(-radicand, degree, times) if times == 1 else _power(-_root(-radicand, degree), Fraction(times))
            )
        if radicand >= 0:
            over, under = _whole_root(radicand.numerator, n), _whole_root(radicand.denominator, n)
            if over is not None and under is not None:
                return _power(Fraction(over, under), Fraction(times))
    value = inexact(radicand)
    if n == 2:
        return ctx.sqrt(value) ** times
    if is_real(value) and value.real < 0 and n % 2:
        return -(ctx.root(-value, n) ** times)
    return ctx.root(value, n) ** times


def _whole_root(number: int, n: int) -> int | None:
    """The n-th root of a whole number, where it is whole."""
    if number.bit_length() > _MOST_BITS // 8:
        return None
    if n == 2:
        root = math.isqrt(number)
        return root if root * root == number else None
    low, high = 0, 1 << (number.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**n <= number else (low, middle - 1)
    return low if low**n == number else None


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1:
        if not 0 <= value <= 2000:
            raise UndefinedError("a factorial that is too large, or none")
        return Fraction(math.factorial(value.numerator))
    number = inexact(value)
    if abs(number) > 10**4:
        raise UndefinedError("a factorial that is too large")
    return context().gamma(number + 1)


def _binomial(n: Value, k: Value) -> Value:
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1:
        if not 0 <= k <= 2000 or not 0 <= n <= 2000:
            raise UndefinedError("a binomial coefficient that is too large, or none")
        return Fraction(math.comb(n.numerator, k.numerator))
    return _divide(_factorial(n), _multiply(_factorial(k), _factorial(_add(n, -k))))


def _rounded(function: Callable[[Any], int]) -> Callable[[Value], Value]:
    def rounded(value: Value) -> Value:
        if isinstance(value, Fraction):
            return Fraction(function(value))
        if not is_real(value) or abs(value) > 10**30 or abs(value - context().nint(value)) < context().mpf(10) ** -50:
            raise UndefinedError("nearly a whole number")
        return Fraction(int(context().floor(value.real)) + (function is math.ceil))

    return rounded


def _exactly(function: Callable[..., int]) -> Callable[..., Value]:
    def of_whole(*args: Value) -> Value:
        if not all(isinstance(arg, Fraction) and arg.denominator == 1 for arg in args):
            raise UndefinedError("no whole numbers")
        return Fraction(function(*(arg.numerator for arg in args)))

    return of_whole


def _ordered(function: Callable[..., Any]) -> Callable[..., Value]:
    def of_real(*args: Value) -> Value:
        if not all(map(is_real, args)):
            raise UndefinedError("no order")
        return function(args, key=lambda arg: inexact(arg).real)

    return of_real


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": _add,
    "-": lambda a, b: _add(a, -b),
    "*": _multiply,
    "/": _divide,
    "^": _power,
    "neg": lambda a: -a,
    "root": _root,
    "factorial": _factorial,
    "binom": _binomial,
    "abs": abs,
    "percent": lambda a: _divide(a, Fraction(100)),
    "degrees": lambda a: inexact(a) * context().pi / 180,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "gcd": _exactly(math.gcd),
    "lcm": _exactly(math.lcm),
    "max": _ordered(max),
    "min": _ordered(min),
    "ln": lambda a: context().log(inexact(a)),
    "logbase": lambda a, b: context().log(inexact(a)) / context().log(inexact(b)),
}
_MPMATH = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp")},
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
}
