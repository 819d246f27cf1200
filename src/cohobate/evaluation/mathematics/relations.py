"""Compare two equations or inequalities by both of their sides.

They are the same where one difference of sides is a multiple of the other. They are not the same where a point solves
one of them and not the other; a point is looked for by solving for one letter, where that is linear or quadratic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from cohobate.evaluation.mathematics import arithmetic, values
from cohobate.evaluation.mathematics.equality import same_nodes
from cohobate.evaluation.mathematics.structures import Relation
from cohobate.evaluation.mathematics.tree import Call, Node

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_POINTS = 5
_SMALL = [Fraction(n) for n in (0, 1, 2, -1, 3)] + [Fraction(1, 2), Fraction(-1, 3)]


def compare_relations(first: Relation, second: Relation) -> bool | None:
    """Whether two relations say the same of their letters."""
    if first.op == second.op == "=" and first.name and first.name == second.name:
        explicit = values.equal(first.right, second.right)
        if explicit is not False:
            return explicit
        if not values.symbols(first.right) and not values.symbols(second.right):
            return same_nodes(first.right, second.right)
    left, right = _difference(first), _difference(second)
    factor = _factor(left, right)
    if values.symbols(left) != values.symbols(right):
        return factor is not None or None  # a letter may cancel
    if first.op == second.op in ("=", "!="):
        if factor is not None:
            return True
        return _differ(left, right) if first.op == "=" else None
    if first.op in _FLIPPED and second.op in _FLIPPED:
        return _inequalities(first.op, second.op, factor)
    return False if factor is not None else None


def _inequalities(op: str, other: str, factor: Fraction | None) -> bool | None:
    if factor is None:
        return None
    return op == (other if factor > 0 else _FLIPPED[other])


def _difference(relation: Relation) -> Node:
    return Call("-", (relation.left, relation.right))


def _factor(left: Node, right: Node) -> Fraction | None:
    """The constant that `left` is times `right`, as far as points show; None where it is none."""
    names = sorted(values.symbols(left) | values.symbols(right))
    ratios: list[arithmetic.Value] = []
    for kind in ("positive", "negative", "whole"):
        for point in values.points(names, kind):
            try:
                a, b = values.evaluate(left, point), values.evaluate(right, point)
            except arithmetic.UndefinedError:
                continue
            if a == 0 or b == 0:
                if a != b:
                    return None
                continue
            ratio = (
                a / b
                if isinstance(a, Fraction) and isinstance(b, Fraction)
                else arithmetic.inexact(a) / arithmetic.inexact(b)
            )
            if not arithmetic.is_real(ratio) or (ratios and arithmetic.same_value(ratio, ratios[0]) is not True):
                return None
            ratios.append(ratio)
            if len(ratios) >= 3 * _POINTS:
                break
    if len(ratios) < _POINTS:
        return None
    return ratios[0] if isinstance(ratios[0], Fraction) else Fraction(1 if ratios[0].real > 0 else -1)


def _differ(left: Node, right: Node) -> bool | None:
    """False where a point solves only one of the two equations; None where none is found."""
    for one, other in ((left, right), (right, left)):
        for point in _solutions(one):
            try:
                value = values.evaluate(other, point)
            except arithmetic.UndefinedError:
                continue
            if arithmetic.same_value(value, Fraction(0)) is False:
                return False
    return None


def _solutions(node: Node) -> Iterator[dict[str, arithmetic.Value]]:
    """Some real points where it is 0, found by solving for one letter in which it is linear or quadratic."""
    names = sorted(values.symbols(node))
    for name in names:
        for point in _other_letters(node, name, names):
            try:
                roots = _roots(_along(node, name, point))
            except arithmetic.UndefinedError:
                continue
            for root in roots:
                yield {**point, name: root}


def _other_letters(node: Node, name: str, names: list[str]) -> Iterator[dict[str, Fraction]]:
    """Values of the letters other than `name`: some small ones, and where a conic is widest."""
    for at, start in enumerate(_SMALL):
        point = {other: _SMALL[(at + n) % len(_SMALL)] if n else start for n, other in enumerate(names)}
        yield point
    for other in names:
        if other == name:
            continue
        try:
            discriminants = [_discriminant(_along(node, name, {**point, other: Fraction(n)})) for n in range(3)]
        except arithmetic.UndefinedError:
            continue
        if (parabola := _quadratic([*discriminants])) and parabola[0]:
            yield {**point, other: -parabola[1] / (2 * parabola[0])}


def _along(node: Node, name: str, point: dict[str, Fraction]) -> Callable[[Fraction], arithmetic.Value]:
    return lambda value: values.evaluate(node, {**point, name: value})


def _quadratic(at: list[arithmetic.Value]) -> tuple[Fraction, Fraction, Fraction] | None:
    """a, b, c of a x^2 + b x + c by its rational values at 0, 1, 2 ...; None where it is no such function."""
    if not all(isinstance(value, Fraction) for value in at):
        return None
    second = {at[n + 2] - 2 * at[n + 1] + at[n] for n in range(len(at) - 2)}
    if len(second) != 1:
        return None
    a = second.pop() / 2
    return a, at[1] - at[0] - a, at[0]


def _discriminant(function: Callable[[Fraction], arithmetic.Value]) -> Fraction | None:
    coefficients = _quadratic([function(Fraction(n)) for n in range(5)])
    return None if coefficients is None else coefficients[1] ** 2 - 4 * coefficients[0] * coefficients[2]


def _roots(function: Callable[[Fraction], arithmetic.Value]) -> list[arithmetic.Value]:
    """The real roots of a function that is linear or quadratic, with rational coefficients."""
    coefficients = _quadratic([function(Fraction(n)) for n in range(5)])
    if coefficients is None:
        return []
    a, b, c = coefficients
    if a == 0:
        return [-c / b] if b else []
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return []
    root = arithmetic.square_root(discriminant)
    divided = [arithmetic.inexact(-b) + sign * arithmetic.inexact(root) for sign in (1, -1)]
    if isinstance(root, Fraction):
        return [(-b + root) / (2 * a), (-b - root) / (2 * a)]
    return [value / arithmetic.inexact(2 * a) for value in divided]
