"""Compare two expressions as answers: a rounded value, another letter and another base decide nothing."""

from __future__ import annotations

from fractions import Fraction

from cohobate.evaluation.mathematics import arithmetic, values
from cohobate.evaluation.mathematics.quantities import Quantity
from cohobate.evaluation.mathematics.quantity_comparison import rounds
from cohobate.evaluation.mathematics.tree import Call, Node, Number, Symbol

_TRIGONOMETRIC = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


def same_nodes(first: Node, second: Node) -> bool | None:
    """Whether two expressions are equal; None where nothing decides it."""
    equal = values.equal(first, second)
    bases = {node.base if isinstance(node, Number) else None for node in (first, second)}
    if len(bases) == 2:
        return None if None in bases or equal else False
    if equal is False and (
        _in_degrees(first, second) or _rounds(first, second) or _rounds(second, first) or _renamed(first, second)
    ):
        return None
    return equal


def _rounds(decimal: Node, other: Node) -> bool:
    """Whether `decimal` is a decimal number that `other` rounds to."""
    sign = 1
    if isinstance(decimal, Call) and decimal.name == "neg":
        decimal, sign = decimal.args[0], -1
    if not isinstance(decimal, Number) or not decimal.decimals or values.symbols(other):
        return False
    try:
        value = values.evaluate(other)
    except arithmetic.UndefinedError:
        return False
    if not arithmetic.is_real(value) or not abs(value) < 10**30:
        return False
    exact = value if isinstance(value, Fraction) else Fraction(str(arithmetic.context().nstr(value.real, 40)))
    return rounds(Quantity(sign * decimal.value, False, None, decimal.decimals), exact)


def _in_degrees(first: Node, second: Node) -> bool:
    """Whether they are equal where the angles without a unit are degrees: sin 30."""
    left, right = _degrees(first), _degrees(second)
    return (left != first or right != second) and values.equal(left, right) is True


def _degrees(node: Node) -> Node:
    if not isinstance(node, Call):
        return node
    if node.name in _TRIGONOMETRIC and isinstance(node.args[0], Number) and node.args[0].value:
        return Call(node.name, (Call("degrees", node.args),))
    return Call(node.name, tuple(map(_degrees, node.args)))


def _renamed(first: Node, second: Node) -> bool:
    """Whether they are equal where the letters of one are put for those of the other; or differ by a constant C."""
    left, right = sorted(values.symbols(first)), sorted(values.symbols(second))
    if left != right and len(left) == len(right) and "_" not in "".join(left + right):
        return values.equal(_put(first, dict(zip(left, right, strict=True))), second) is not False
    constants = {"C", "c", "k", "K"} & (set(left) ^ set(right))
    for name in constants:
        zero = values.equal(_zero(first, name), _zero(second, name))
        if zero is not False:
            return True
    return False


def _put(node: Node, names: dict[str, str]) -> Node:
    if isinstance(node, Symbol):
        return Symbol(names.get(node.name, node.name))
    return Call(node.name, tuple(_put(arg, names) for arg in node.args)) if isinstance(node, Call) else node


def _zero(node: Node, name: str) -> Node:
    if node == Symbol(name):
        return Number(Fraction(0))
    return Call(node.name, tuple(_zero(arg, name) for arg in node.args)) if isinstance(node, Call) else node
