"""What an answer can be: an expression, an equation, a list, a set, a pair, an interval, a ratio, words."""

from __future__ import annotations

from dataclasses import dataclass

from cohobate.evaluation.mathematics.quantities import Quantity
from cohobate.evaluation.mathematics.tree import Call, Node, Number, Symbol
from cohobate.evaluation.mathematics.units import Unit


@dataclass(frozen=True)
class Expression:
    """A value or a formula, with its unit if any."""

    node: Node
    unit: Unit | None = None


@dataclass(frozen=True)
class Items:
    """kind: list, or (also for ±), set, matrix; or the brackets of a tuple: (), [], (], [), <>."""

    kind: str
    items: tuple[Structure, ...]


@dataclass(frozen=True)
class Relation:
    """left op right; op is one of = < <= > >= !=. name: the letter or f(x) that alone is the left side."""

    left: Node
    op: str
    right: Node
    name: str | None = None


@dataclass(frozen=True)
class Span:
    """An interval of numbers: low and high, and which of them belong to it."""

    low: Node
    high: Node
    closed: tuple[bool, bool]


@dataclass(frozen=True)
class Reals:
    """A union of intervals. name: of the variable, if any."""

    spans: tuple[Span, ...]
    name: str | None = None


@dataclass(frozen=True)
class Words:
    """A text of words, normalised."""

    text: str


@dataclass(frozen=True)
class Measured:
    """A number with a unit, or a plain decimal number."""

    quantity: Quantity


@dataclass(frozen=True)
class Clock:
    """Numbers between colons: a time of the day, or a ratio. half: am, pm, or none."""

    parts: tuple[int, ...]
    half: str | None
    two_digits: bool


Structure = Expression | Items | Relation | Reals | Words | Measured | Clock

INFINITY = Symbol("oo")
MINUS_INFINITY = Call("neg", (INFINITY,))


def as_expression(item: Structure) -> Expression | None:
    """An expression; also of a plain number."""
    if isinstance(item, Expression):
        return item
    if isinstance(item, Measured) and not item.quantity.percent:
        value = Number(item.quantity.value, None, item.quantity.decimals)
        return Expression(value, item.quantity.unit)
    return None
