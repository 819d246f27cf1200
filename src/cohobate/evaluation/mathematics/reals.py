"""Sets of real numbers: intervals, and what can be read as one."""

from __future__ import annotations

from cohobate.evaluation.mathematics.structures import (
    INFINITY,
    MINUS_INFINITY,
    Items,
    Reals,
    Relation,
    Span,
    Structure,
    as_expression,
)
from cohobate.evaluation.mathematics.tree import Node, Symbol, UnreadError
from cohobate.evaluation.mathematics.values import symbols

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
ALL = Reals((Span(MINUS_INFINITY, INFINITY, (False, False)),))


def without(numbers: Structure, points: Structure) -> Reals:
    """All real numbers but some."""
    if numbers != ALL or not isinstance(points, Items) or points.kind != "set":
        raise UnreadError("a difference of sets")
    nodes = [item.node for item in map(as_expression, points.items) if item]
    if len(nodes) != 1 or len(points.items) != 1:
        raise UnreadError("a difference of sets")
    return all_but(nodes[0], None)


def all_but(node: Node, name: str | None) -> Reals:
    """All real numbers but one."""
    return Reals((Span(MINUS_INFINITY, node, (False, False)), Span(node, INFINITY, (False, False))), name)


def as_reals(item: Structure) -> Reals | None:
    """An interval; also a pair in brackets or parentheses, which may be one."""
    if isinstance(item, Reals):
        return item
    if isinstance(item, Relation):
        return interval_of(item)
    if isinstance(item, Items) and item.kind in ("()", "[]", "(]", "[)") and len(item.items) == 2:
        low, high = map(as_expression, item.items)
        if low and high and not low.unit and not high.unit:
            closed = item.kind[0] == "[" and low.node != MINUS_INFINITY, item.kind[1] == "]" and high.node != INFINITY
            return Reals((Span(low.node, high.node, closed),))
    if (
        isinstance(item, Items)
        and item.kind == "set"
        and len(item.items) == 1
        and (only := as_expression(item.items[0]))
    ):
        return Reals((Span(only.node, only.node, (True, True)),))
    return None


def interval_of(relation: Relation) -> Reals | None:
    """An inequality such as x > 2 as an interval; None for relations without a letter alone on one side."""
    name, op, bound = relation.name, relation.op, relation.right
    if name is None and isinstance(relation.right, Symbol) and symbols(relation.right):
        name, op, bound = relation.right.name, FLIPPED[op], relation.left
    if name is None or op == "=" or symbols(bound):
        return None
    if op == "!=":
        return all_but(bound, name)
    closed = op.endswith("=")
    if op.startswith("<"):
        return Reals((Span(MINUS_INFINITY, bound, (False, closed)),), name)
    return Reals((Span(bound, INFINITY, (closed, False)),), name)
