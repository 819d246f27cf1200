"""Compare two expressions by their values: exactly where they are rational, else to 80 digits; with letters at points.

Expressions with letters are compared at rational points: positive, negative and whole ones. Values that differ by
less than they are computed to, or that are equal at some kinds of points only, decide nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from cohobate.evaluation.mathematics.arithmetic import (
    MPMATH,
    OPERATIONS,
    RATIONAL,
    UndefinedError,
    Value,
    context,
    inexact,
    more_digits,
    same_value,
)
from cohobate.evaluation.mathematics.tree import CONSTANTS, Call, Node, Number, Symbol

_POINTS = 3
# Of exponential and trigonometric functions; larger ones take long.
_LARGEST_ARGUMENT = 10**6
# What a logarithm without a base is to: some number that nobody means.
LOG_BASE = "\\log"


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


@lru_cache(maxsize=1024)
def equal(first: Node, second: Node) -> bool | None:
    """Whether two expressions are equal; None where that is not decided."""
    same = _equal(first, second)
    if same and not (_is_rational(first) and _is_rational(second)):
        with more_digits():
            return _equal(first, second)
    return same


def _is_rational(node: Node) -> bool:
    """Whether its values are computed exactly at rational points."""
    if isinstance(node, Call):
        return node.name in RATIONAL and all(map(_is_rational, node.args))
    return not isinstance(node, Symbol) or node.name not in CONSTANTS


def _equal(first: Node, second: Node) -> bool | None:
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
    if function := OPERATIONS.get(node.name):
        return function(*args)
    argument = inexact(args[0])
    if not abs(argument) <= _LARGEST_ARGUMENT:
        raise UndefinedError("an argument that is too large")
    return getattr(ctx, MPMATH[node.name])(argument)
