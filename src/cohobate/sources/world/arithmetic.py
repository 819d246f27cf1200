"""Arithmetic problems: expression trees, short stories, and solutions with chain of thought in two styles.

Every value stays within 0..`LARGEST`: a model of a million parameters can learn all sums and products of this range,
and the difficulty lies in the length of the chain.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

LARGEST = 99
Kind = Literal["expression", "story"]
Style = Literal["steps", "rewrite"]
STYLES: tuple[Style, ...] = ("steps", "rewrite")

_PRECEDENCE = {"+": 1, "-": 1, "*": 2}
_NAMES = [
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gus",
    "Hana",
    "Ivo",
    "June",
    "Kai",
    "Lena",
    "Milo",
    "Nora",
    "Otto",
    "Pia",
]
_ITEMS = ["apples", "books", "coins", "cards", "eggs", "keys", "lamps", "pens", "plums", "shells", "stamps", "stones"]


@dataclass(frozen=True)
class Number:
    """A leaf: a literal of the question, or the value of an operation."""

    value: int


@dataclass(frozen=True)
class Operation:
    """`left op right`; `value` is checked to lie within 0..`LARGEST` when the tree is drawn."""

    op: str
    left: Tree
    right: Tree

    @property
    def value(self) -> int:
        return apply(self.op, self.left.value, self.right.value)


Tree = Number | Operation


@dataclass(frozen=True)
class Problem:
    """A question with the tree that answers it."""

    question: str
    tree: Tree
    kind: Kind

    @property
    def depth(self) -> int:
        """Number of operations."""
        return sum(1 for _ in operations(self.tree))

    @property
    def answer(self) -> int:
        return self.tree.value


def apply(op: str, left: int, right: int) -> int:
    """`left op right` for op in + - *."""
    return {"+": left + right, "-": left - right, "*": left * right}[op]


def operations(tree: Tree) -> Iterator[Operation]:
    """The operations of `tree` in the order of evaluation: left, right, then the node."""
    if isinstance(tree, Operation):
        yield from operations(tree.left)
        yield from operations(tree.right)
        yield tree


def render(tree: Tree) -> str:
    """The expression as text, with the parentheses it needs and no others."""
    if isinstance(tree, Number):
        return str(tree.value)
    level = _PRECEDENCE[tree.op]
    left, right = render(tree.left), render(tree.right)
    if isinstance(tree.left, Operation) and _PRECEDENCE[tree.left.op] < level:
        left = f"({left})"
    if isinstance(tree.right, Operation) and _PRECEDENCE[tree.right.op] <= level:
        right = f"({right})"
    return f"{left} {tree.op} {right}"


def draw_expression(rng: random.Random, depth: int) -> Problem:
    """`What is (8 + 1) * 7?` with `depth` operations."""
    while True:
        tree = _draw_tree(rng, depth)
        if _in_range(tree):
            return Problem(f"What is {render(tree)}?", tree, "expression")


def draw_story(rng: random.Random, depth: int) -> Problem:
    """`Ada has 4 boxes of 6 pens. Ada finds 3 pens. How many pens does Ada have?`, `depth` operations or one more.

    Boxes are two operations at once, so that a story may overshoot.
    """
    while True:
        name, items = rng.choice(_NAMES), rng.choice(_ITEMS)
        text, tree = _story_start(rng, name, items)
        while sum(1 for _ in operations(tree)) < depth:
            sentence, tree = _story_event(rng, name, items, tree)
            text += f" {sentence}"
        if isinstance(tree, Operation) and _in_range(tree):
            return Problem(f"{text} How many {items} does {name} have?", tree, "story")


def draw(rng: random.Random, depth: int, story: float) -> Problem:
    """A story with probability `story`, else an expression."""
    return draw_story(rng, depth) if rng.random() < story else draw_expression(rng, depth)


def equation(operation: Operation) -> str:
    """`8 + 1 = 9` from the values of both sides."""
    return f"{operation.left.value} {operation.op} {operation.right.value} = {operation.value}"


def solve(tree: Tree, style: Style) -> str:
    """The rationale. steps: `8 + 1 = 9. 9 * 7 = 63.`; rewrite: `(8 + 1) * 7 = 9 * 7 = 63.`"""
    if style == "steps":
        return " ".join(f"{equation(operation)}." for operation in operations(tree))
    lines = [render(tree)]
    while isinstance(tree, Operation):
        tree = _reduce_first(tree)
        lines.append(render(tree))
    return " = ".join(lines) + "."


def _draw_tree(rng: random.Random, depth: int) -> Tree:
    if depth == 0:
        return Number(rng.randint(1, 9))
    left = rng.randint(0, depth - 1)
    return Operation(rng.choice("+-*"), _draw_tree(rng, left), _draw_tree(rng, depth - 1 - left))


def _in_range(tree: Tree) -> bool:
    """Values within 0..LARGEST, and one factor of each product a single digit (no long multiplication)."""
    return all(
        0 <= node.value <= LARGEST and (node.op != "*" or min(node.left.value, node.right.value) <= 9)
        for node in operations(tree)
    )


def _story_start(rng: random.Random, name: str, items: str) -> tuple[str, Tree]:
    first, second = rng.randint(2, 9), rng.randint(2, 9)
    if rng.random() < 0.5:
        return f"{name} has {first} boxes of {second} {items}.", Operation("*", Number(first), Number(second))
    return f"{name} has {first} {items}.", Number(first)


def _story_event(rng: random.Random, name: str, items: str, tree: Tree) -> tuple[str, Tree]:
    count = rng.randint(2, 9)
    change = Number(count)
    match rng.choice(("finds", "buys", "gives", "loses", "box", "double", "triple")):
        case "finds":
            return f"{name} finds {count} {items}.", Operation("+", tree, change)
        case "buys":
            return f"{name} buys {count} more.", Operation("+", tree, change)
        case "gives":
            return f"{name} gives away {count}.", Operation("-", tree, change)
        case "loses":
            return f"{name} loses {count} {items}.", Operation("-", tree, change)
        case "double":
            return "Then the number doubles.", Operation("*", tree, Number(2))
        case "triple":
            return "Then the number triples.", Operation("*", tree, Number(3))
        case _:
            boxes = rng.randint(2, 5)
            more = Operation("*", Number(boxes), change)
            return f"{name} gets {boxes} boxes of {count} {items}.", Operation("+", tree, more)


def _reduce_first(tree: Operation) -> Tree:
    """`tree` with its first workable operation replaced by its value."""
    if isinstance(tree.left, Operation):
        return Operation(tree.op, _reduce_first(tree.left), tree.right)
    if isinstance(tree.right, Operation):
        return Operation(tree.op, tree.left, _reduce_first(tree.right))
    return Number(tree.value)
