"""Arithmetic of answers: exact where it is rational, else with mpmath to 80 digits, all of it in a bounded time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from typing import Any

Value = Any  # a Fraction, or a number of mpmath
_DIGITS = 80
# What is equal to so many digits is computed once more, to these.
_CONFIRMING_DIGITS = 600
# Larger whole numbers are beyond them.
_MOST_INEXACT_BITS = 1600
_MOST_BITS = 60_000
_SAME_DIGITS = 60


class UndefinedError(Exception):
    """The expression has no value there, or none that can be computed in a bounded time."""


class _Arithmetic(threading.local):
    """mpmath's context of a thread."""

    @cached_property
    def context(self) -> Any:
        import mpmath

        ctx = mpmath.MPContext()
        ctx.dps = _DIGITS
        return ctx


_ARITHMETIC = _Arithmetic()


def context() -> Any:
    """The arithmetic of numbers that are not rational."""
    return _ARITHMETIC.context


@contextmanager
def more_digits() -> Iterator[None]:
    """Compute to more digits meanwhile."""
    context().dps = _CONFIRMING_DIGITS
    try:
        yield
    finally:
        context().dps = _DIGITS


def same_value(first: Value, second: Value) -> bool | None:
    """Whether two values are equal; None where they differ by less than they are computed to."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    ctx = context()
    a, b = inexact(first), inexact(second)
    if ctx.isinf(a) or ctx.isinf(b) or ctx.isnan(a) or ctx.isnan(b):
        return None if ctx.isnan(a) or ctx.isnan(b) else bool(a == b)
    difference, size = abs(a - b), max(abs(a), abs(b))
    same_digits = _SAME_DIGITS * ctx.dps // _DIGITS
    if difference > size * ctx.mpf(10) ** -same_digits and difference > ctx.mpf(10) ** -same_digits:
        return False
    if difference <= max(size, 1) * ctx.mpf(10) ** (10 - ctx.dps) and (size > ctx.mpf(10) ** -20 or size == 0):
        return True
    return None if difference <= max(size, 1) * ctx.mpf(10) ** -same_digits else False


def is_real(value: Value) -> bool:
    """Whether it has no imaginary part."""
    return isinstance(value, Fraction) or not isinstance(value, context().mpc) or value.imag == 0


def inexact(value: Value) -> Any:
    """As a number of mpmath."""
    ctx = context()
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_INEXACT_BITS:
            raise UndefinedError("a number that is too large to be added to one that is not rational")
        return ctx.mpf(value.numerator) / value.denominator
    return value


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


OPERATIONS: dict[str, Callable[..., Value]] = {
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
RATIONAL = frozenset({"+", "-", "*", "/", "neg", "factorial", "binom", "abs", "percent", "gcd", "lcm", "max", "min"})
MPMATH = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp")},
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
}
