"""Compare two structures: True, False, or None where nothing decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from cohobate.core.answer_text import normalise
from cohobate.evaluation.mathematics import values
from cohobate.evaluation.mathematics.equality import same_nodes
from cohobate.evaluation.mathematics.quantity_comparison import compare_quantities
from cohobate.evaluation.mathematics.reals import as_reals, interval_of
from cohobate.evaluation.mathematics.relations import compare_relations
from cohobate.evaluation.mathematics.structures import (
    Clock,
    Expression,
    Items,
    Measured,
    Reals,
    Relation,
    Span,
    Structure,
    Words,
    as_expression,
)
from cohobate.evaluation.mathematics.tree import Call, Number
from cohobate.evaluation.mathematics.units import conversions
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT

_TUPLES = frozenset({"()", "[]", "(]", "[)", "<>"})
_UNORDERED = frozenset({"set", "or"})
_SYNONYMS = (
    {"yes", "true", "correct", "right"},
    {"no", "false", "incorrect", "wrong"},
    {"dne", "does not exist", "undefined", "none", "no limit", "not defined"},
    {"none", "zero", "nothing", "no one", "nobody"},
    {"all", "everything", "every", "all of them", "all of the above"},
)
_HALF_A_DAY = 12 * 3600
_ARTICLES = frozenset({"the", "a", "an"})


def same(first: Structure, second: Structure) -> bool | None:
    """Whether an answer and a gold answer are the same."""
    for a, b in ((first, second), (second, first)):
        if isinstance(a, Relation) and a.op == "=" and a.name and not isinstance(b, Relation | Items):
            return same(Expression(a.right), b)
    if isinstance(first, Clock) or isinstance(second, Clock):
        return _clocks(first, second)
    if isinstance(first, Words) and isinstance(second, Words):
        return _words(first.text, second.text)
    if {type(first), type(second)} == {Words, Reals}:
        words = first if isinstance(first, Words) else second
        return False if isinstance(words, Words) and words.text.startswith("numbers ") else None
    if isinstance(first, Relation) and isinstance(second, Relation):
        return compare_relations(first, second)
    first, second = _as_numbers(first), _as_numbers(second)
    if isinstance(first, Reals) or isinstance(second, Reals):
        return _reals(first, second)
    if isinstance(first, Measured) and isinstance(second, Measured):
        verdict = compare_quantities(first.quantity, second.quantity, 0)
        return True if verdict is CORRECT else False if verdict is ANOTHER else None
    if isinstance(first, Items) or isinstance(second, Items):
        return _items(first, second)
    left, right = as_expression(first), as_expression(second)
    if left and right:
        return _expressions(left, right)
    return _percent(first, second)


def _as_numbers(item: Structure) -> Structure:
    """An inequality as an interval."""
    return (interval_of(item) or item) if isinstance(item, Relation) else item


# ---- expressions ----


def _expressions(first: Expression, second: Expression) -> bool | None:
    left_unit, right_unit = first.unit, second.unit
    if left_unit and right_unit:
        if left_unit.name == right_unit.name:
            return same_nodes(first.node, second.node)
        if left_unit.dimension is None or left_unit.dimension != right_unit.dimension:
            return None
        scaled = [Call("*", (each.node, Number(each.unit.factor))) for each in (first, second) if each.unit]
        return same_nodes(*scaled)
    equal = same_nodes(first.node, second.node)
    unit = left_unit or right_unit
    if equal is not False or unit is None:
        return equal
    measured, bare = (first, second) if first.unit else (second, first)
    if unit.dimension == "angle":
        return values.equal(Call("degrees", (measured.node,)), bare.node)
    converted = [Call("*", (measured.node, Number(factor))) for factor in conversions(unit)]
    return None if any(values.equal(each, bare.node) is not False for each in converted) else False


def _percent(first: Structure, second: Structure) -> bool | None:
    """A percentage and an expression: 12.5% and 1/8."""
    for a, b in ((first, second), (second, first)):
        if isinstance(a, Measured) and a.quantity.percent and (other := as_expression(b)):
            value = Number(a.quantity.value)
            equal = [values.equal(node, other.node) for node in (value, Call("percent", (value,)))]
            return True if True in equal else False if equal == [False, False] else None
    return None


# ---- lists, sets, tuples ----


def _items(first: Structure, second: Structure) -> bool | None:
    for a, b in ((first, second), (second, first)):
        if not isinstance(b, Items):
            assert isinstance(a, Items)
            return _one_of(a, b)
    assert isinstance(first, Items) and isinstance(second, Items)
    kinds = {first.kind, second.kind}
    if (values_ := _named(first)) and (others := _named(second)):
        return _same_names(values_, others)
    if "matrix" in kinds and len(kinds) == 2:
        return False if _as_sets(_leaves(first), _leaves(second)) is False else None
    if (systems := _systems(first, second)) is not None:
        return systems
    if first.kind in _UNORDERED and second.kind in _UNORDERED:
        return _as_sets(first.items, second.items)
    if first.kind == second.kind and (first.kind in _TUPLES or first.kind == "matrix"):
        return _in_order(first.items, second.items)
    if kinds <= _TUPLES:
        intervals = len(first.items) == 2 and kinds & {"[]", "(]", "[)"}
        if intervals and as_reals(first) and as_reals(second):
            return _reals(first, second)
        return False if intervals or _in_order(first.items, second.items) is False else None
    if first.kind == second.kind == "list":
        return _lists(first.items, second.items)
    if kinds <= {"list", *_UNORDERED}:
        return _list_and_set(first, second)
    return False if _as_sets(first.items, second.items) is False else None


def _same_names(first: dict[str, Structure], second: dict[str, Structure]) -> bool | None:
    """Equations that give letters their values; which of the letters x_1 and x_2 is which may not matter."""
    if {*first} != {*second}:
        return None
    equal = _in_order([first[name] for name in second], [*second.values()])
    if equal is False and len({name.partition("_")[0] for name in first}) == 1:
        return False if _as_sets([*first.values()], [*second.values()]) is False else None
    return equal


def _leaves(items: Items) -> list[Structure]:
    """The entries of a list of lists, whatever their order."""
    return [leaf for item in items.items for leaf in (_leaves(item) if isinstance(item, Items) else [item])]


def _in_order(first: Sequence[Structure], second: Sequence[Structure]) -> bool | None:
    if len(first) != len(second):
        return False
    equal = [same(a, b) for a, b in zip(first, second, strict=True)]
    return False if False in equal else None if None in equal else True


def _lists(first: Sequence[Structure], second: Sequence[Structure]) -> bool | None:
    """A list in another order may be another list, or not."""
    equal = _in_order(first, second)
    if equal is not False:
        return equal
    if all(isinstance(item, Relation) and item.name for item in (*first, *second)):
        return _as_sets(first, second)  # x = 1, y = 2 in any order
    return False if _as_sets(first, second) is False else None


def _list_and_set(first: Items, second: Items) -> bool | None:
    """Equal where the gold answer is a set, or the list stands in the order of the set."""
    equal = _as_sets(first.items, second.items)
    if equal is not True or second.kind in _UNORDERED or _in_order(first.items, second.items):
        return equal
    signs = first.kind == "or" and len(second.items) == 2 and len(first.items) == 2
    return True if signs and _opposite(second.items) else None


def _opposite(items: Sequence[Structure]) -> bool:
    """Whether they are a and -a, in which no order is meant."""
    nodes = [each.node for each in map(as_expression, items) if each]
    return len(nodes) == 2 and values.equal(nodes[0], Call("neg", (nodes[1],))) is True


def _as_sets(first: Sequence[Structure], second: Sequence[Structure]) -> bool | None:
    undecided = False
    for these, those in ((first, second), (second, first)):
        for item in these:
            answers = {same(item, other) for other in those}
            if True not in answers:
                if None not in answers:
                    return False
                undecided = True
    return None if undecided else True


def _systems(first: Items, second: Items) -> bool | None:
    """A system x = 1, y = 2 and the pair (1, 2), whose letters stand in the order of the alphabet."""
    for a, b in ((first, second), (second, first)):
        named = _named(a)
        if named and b.kind in _TUPLES:
            equal = _in_order([named[name] for name in sorted(named)], b.items)
            return equal if equal is not True or sorted(named) == list(named) else None
    return None


def _named(items: Items) -> dict[str, Structure] | None:
    """The value of each letter, of equations that give different letters; None for others."""
    named = {item.name: Expression(item.right) for item in items.items if isinstance(item, Relation) and item.op == "="}
    names = {name: value for name, value in named.items() if name is not None}
    return dict(names) if len(names) == len(items.items) > 1 else None


def _one_of(items: Items, single: Structure) -> bool | None:
    """A list against a single thing: another answer, unless all of the list is that thing."""
    if items.kind == "set" and not items.items:
        return False if as_expression(single) else None
    if isinstance(single, Words | Reals) or items.kind == "matrix":
        return None
    if isinstance(single, Relation) and items.kind in _TUPLES:
        return None
    if isinstance(single, Relation) and not single.name:
        return None
    equal = [same(item, single) for item in items.items]
    if len(equal) == 1:
        return equal[0]
    if all(answer is True for answer in equal):
        return None
    return None if None in equal else False


# ---- intervals ----


def _reals(first: Structure, second: Structure) -> bool | None:
    left, right = as_reals(first), as_reals(second)
    if left is None or right is None:
        return None
    if left.name and right.name and left.name != right.name:
        return None
    if len(left.spans) != len(right.spans):
        return False if min(len(left.spans), len(right.spans)) == 1 and _all_decided(left, right) else None
    undecided = False
    for span in left.spans:
        answers = {_spans(span, other) for other in right.spans}
        if True not in answers:
            if None not in answers:
                return False
            undecided = True
    return None if undecided else True


def _all_decided(left: Reals, right: Reals) -> bool:
    """Whether no two spans of one side touch, so that their number is part of what they are."""
    for reals in (left, right):
        ends = [node for span in reals.spans for node in (span.low, span.high)]
        for at, node in enumerate(ends):
            if any(values.equal(node, other) is not False for other in ends[at + 1 :]):
                return False
    return True


def _spans(first: Span, second: Span) -> bool | None:
    equal = [same_nodes(first.low, second.low), same_nodes(first.high, second.high)]
    if False in equal or first.closed != second.closed:
        return False
    return None if None in equal else True


# ---- words, times, ratios ----


def _words(first: str, second: str) -> bool | None:
    left, right = (" ".join(w for w in text.split() if w not in _ARTICLES) for text in (first, second))
    if normalise(left) == normalise(right):
        return True
    words = set(left.split()), set(right.split())
    if words[0] & words[1] or sorted(left.replace(" ", "")) == sorted(right.replace(" ", "")):
        return None
    if any({left, right} <= synonyms for synonyms in _SYNONYMS):
        return None
    initials = ["".join(word[0] for word in text.split()) for text in (left, right)]
    if left in (initials[1], initials[1].replace("o", "")) or right in (initials[0], initials[0].replace("o", "")):
        return None
    if left.startswith(right[:4]) or max(len(words[0]), len(words[1])) > 3:
        return None
    return False


def _clocks(first: Structure, second: Structure) -> bool | None:
    if isinstance(first, Clock) and isinstance(second, Clock):
        return _two_clocks(first, second)
    clock, other = (first, second) if isinstance(first, Clock) else (second, first)
    assert isinstance(clock, Clock)
    expression = as_expression(other)
    if expression is None or expression.unit or clock.half or len(clock.parts) != 2 or not clock.parts[1]:
        return None
    ratio = Number(Fraction(clock.parts[0], clock.parts[1]))
    return True if values.equal(ratio, expression.node) and not clock.two_digits else None


def _two_clocks(first: Clock, second: Clock) -> bool | None:
    if first.half or second.half:
        if first.half and second.half:
            return _seconds(first) == _seconds(second)
        named, bare = (first, second) if first.half else (second, first)
        hours = _seconds(named), _seconds(replace(named, half="am" if named.half == "pm" else "pm"))
        if _seconds(bare) == hours[0] and bare.parts[0] > 12:
            return True
        return None if _seconds(bare) in hours else False
    if first.parts == second.parts:
        return True
    if len(first.parts) != len(second.parts):
        return None
    if first.two_digits and second.two_digits and abs(_seconds(first) - _seconds(second)) == _HALF_A_DAY:
        return None  # the same time, on clocks of 12 and of 24 hours
    if any(a * second.parts[0] != b * first.parts[0] for a, b in zip(first.parts, second.parts, strict=True)):
        return False
    return None if first.two_digits and second.two_digits else True


def _seconds(clock: Clock) -> int:
    """Seconds since midnight."""
    hours, *rest = clock.parts
    if clock.half:
        hours = hours % 12 + (12 if clock.half == "pm" else 0)
    return hours * 3600 + sum(part * unit for part, unit in zip(rest, (60, 1), strict=False))
