"""Read an answer as what it is: an expression, an equation, a list, a set, a pair, an interval, a ratio, words.

What is not understood wholly raises UnreadError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from cohobate.core.answer_text import normalise
from cohobate.evaluation.mathematics.expressions import read
from cohobate.evaluation.mathematics.latex import is_one_group, prepare, split
from cohobate.evaluation.mathematics.quantities import read_number
from cohobate.evaluation.mathematics.reals import ALL, FLIPPED, as_reals, interval_of, without
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
)
from cohobate.evaluation.mathematics.tree import Call, Node, Number, Symbol, UnreadError
from cohobate.evaluation.mathematics.units import unit

LONGEST = 600
_VECTOR = re.compile(r"\\(?:vec|mathbf|boldsymbol|overrightarrow)(?![a-zA-Z])")
_MOST_ITEMS = 60
_LOGIC = re.compile(r"\\(?:land|wedge|lor|vee)(?![a-zA-Z])|[∧∨]")
_COUNTED = re.compile(r"\d\s*[RCP]\s*\d")  # 5 R 3, 5C2
_RELATIONS = re.compile(r"(?P<op>\\(?:leq?slant|geq?slant|leq?|geq?|neq?|lt|gt)(?![a-zA-Z])|<=|>=|!=|=|<|>)")
_OPS = {"\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\ne": "!=",
        "\\neq": "!=", "\\lt": "<", "\\gt": ">"}  # fmt: skip
_NAMED = re.compile(
    r"\s*(?:[a-zA-Z]|[A-Z]{2,5}|\|[A-Z]{2}\||\\[a-zA-Z]+)(?:_(?:\{\w+\}|\w))?(?:\([a-zA-Z](?:,\s*[a-zA-Z])*\))?\s*"
)
_WHOLE_NAME = re.compile(r".*\(.*|\|?[A-Z]{2,5}\|?")
_LETTERS = re.compile(r"\s*\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])+\s*\)\s*")
_EMPTY = re.compile(r"\\emptyset|\\varnothing|\\\{\s*\\\}|no (?:real )?solutions?", re.IGNORECASE)
_NUMBER_SETS = re.compile(r"\\(?:mathbb|mathbf)\s*\{?\s*([RZNQC])\s*\}?")
_CLOCK = re.compile(
    r"(\d{1,4})((?:\s*:\s*\d{1,4}){1,2})\s*([ap]\.?\s?m\.?)?|(\d{1,2})\s*([ap]\.?\s?m\.?)", re.IGNORECASE
)
_MATRIX = re.compile(r"\\begin\{([pbvB]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.-](?=[^\W\d_]|$))*(?:[ ,]+[^\W\d_](?:[^\W\d_]|['’.-])*){0,12}")
_TRAILING_UNIT = re.compile(r"(.*?(?:[^a-zA-Z\s]|\s))((?:[a-zA-Z]{1,12}[ /]?){1,3}(?:\^\{?[1-4]\}?)?)", re.DOTALL)
_SEGMENT = re.compile(r"[A-Z]{2}")
_SHORT_WORDS = frozenset({"no", "ok", "up"})
_ELEMENT = re.compile(r"\s*([a-zA-Z])\s*\\in(?![a-zA-Z])\s*")
_UNIT = re.compile(r"(.+)\\unit\{([^{}]*)\}(\^(?:\{\s*[1-4]\s*\}|[1-4]))?", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


def structure(text: str) -> Structure:
    """The structure of a whole answer. Raises UnreadError."""
    if len(text) > LONGEST:
        raise UnreadError("too long")
    if "\\times" in text and _VECTOR.search(text):
        raise UnreadError("a product of vectors")
    if _LOGIC.search(text) and not _RELATIONS.search(text):
        raise UnreadError("logic")
    if _COUNTED.search(text):
        raise UnreadError("a remainder, or a number of combinations")
    return _alternatives(prepare(text))


def _alternatives(text: str) -> Structure:
    parts = split(text, r"\bor\b|\\(?:lor|vee)(?![a-zA-Z])|或")
    if len(parts) > 1:
        return _joined(tuple(_list(part) for part in parts))
    return _list(text)


def _joined(items: tuple[Structure, ...]) -> Structure:
    """Inequalities between which `or` stands are one set of numbers."""
    spans = [_reals(item) for item in items]
    names = {each.name for each in spans if each}
    if all(spans) and len(names) == 1:
        return Reals(tuple(span for each in spans if each for span in each.spans), names.pop())
    return Items("or", tuple(part for item in items for part in _flat(item)))


def _flat(item: Structure) -> tuple[Structure, ...]:
    return item.items if isinstance(item, Items) and item.kind in ("list", "or") else (item,)


def _reals(item: Structure) -> Reals | None:
    if isinstance(item, Reals):
        return item
    return interval_of(item) if isinstance(item, Relation) else None


def _list(text: str) -> Structure:
    if re.search(r"\\ldots(?![a-zA-Z])", text):
        raise UnreadError("a list that goes on")
    parts = split(text, r"[;,]|\band\b|\\(?:land|wedge)(?![a-zA-Z])|和")
    parts = [part for part in parts if part.strip()]
    if len(parts) > _MOST_ITEMS:
        raise UnreadError("too many items")
    if len(parts) > 1:
        if (words := _words(text)) is not None:
            return words
        return Items("list", tuple(part for item in map(_item, parts) for part in _flat(item)))
    return _item(text.strip().strip(",;").strip())


def _item(text: str) -> Structure:
    text = text.strip()
    if not text:
        raise UnreadError("nothing")
    if element := _ELEMENT.match(text):
        inner = _item(text[element.end() :])
        numbers = as_reals(inner)
        return replace(numbers, name=element[1]) if numbers else inner
    readers = (_empty, _clock, _french, _unions, _matrix, _bracketed, _relation, _measured, _plus_minus)
    for reader in readers:
        if (item := reader(text)) is not None:
            return item
    if match := _UNIT.fullmatch(text):
        power = (match[3] or "").strip("^{} ")
        return Expression(read(match[1]), unit(match[2] + (f"^{power}" if power else "")))
    if text.lower() in _SHORT_WORDS:
        return Words(text.lower())
    try:
        return Expression(read(text))
    except UnreadError:
        if (words := _words(text)) is not None:
            return words
        if (match := _TRAILING_UNIT.fullmatch(text)) and (measure := unit(match[2])).dimension:
            return Expression(read(match[1]), measure)
        raise


def _empty(text: str) -> Structure | None:
    return Items("set", ()) if _EMPTY.fullmatch(text) else None


def _clock(text: str) -> Structure | None:
    match = _CLOCK.fullmatch(text)
    if not match:
        return None
    half = (match[3] or match[5] or "").lower()
    half = half[0] + "m" if half else ""
    if match[4]:
        return Clock((int(match[4]), 0), half, True)
    rest = [part.strip() for part in match[2].split(":")[1:]]
    return Clock((int(match[1]), *map(int, rest)), half or None, all(len(p) == 2 and int(p) < 60 for p in rest))


def _french(text: str) -> Structure | None:
    """]1, 2[ is the open interval."""
    if text[0] not in "[]" or text[-1] not in "[]" or (text[0] == "[" and text[-1] == "]"):
        return None
    return _bracketed(("(" if text[0] == "]" else "[") + text[1:-1] + (")" if text[-1] == "[" else "]"))


def _unions(text: str) -> Structure | None:
    parts = split(text, r"\\cup(?![a-zA-Z])")
    if len(parts) > 1:
        spans = [as_reals(_item(part)) for part in parts]
        if not all(spans):
            raise UnreadError("a union of other things than intervals")
        return Reals(tuple(span for each in spans if each for span in each.spans))
    parts = split(text, r"\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])")
    if len(parts) == 2:
        return without(_item(parts[0]), _item(parts[1]))
    if match := _NUMBER_SETS.fullmatch(text):
        return ALL if match[1] == "R" else Words("numbers " + match[1])
    return None


def _matrix(text: str) -> Structure | None:
    match = _MATRIX.fullmatch(text)
    if not match:
        return None
    rows = [row for row in re.split(r"\\\\", match[2]) if row.strip()]
    cells = tuple(Items("()", tuple(_item(cell) for cell in row.split("&"))) for row in rows)
    return Items("matrix", cells)


def _bracketed(text: str) -> Structure | None:
    r"""(a, b), [a, b), \{a, b\}, \langle a, b \rangle."""
    for left, right in (("\\{", "\\}"), ("\\langle", "\\rangle")):
        if text.startswith(left) and text.endswith(right) and is_one_group(text, len(left), len(right)):
            inner = text[len(left) : -len(right)]
            if left == "\\{":
                return _set(inner)
            return Items("<>", tuple(_items(inner)))
    if text[0] in _OPENING and text[-1] in _CLOSING and is_one_group(text, 1, 1):
        inner = text[1:-1]
        parts = split(inner, r"[,;]")
        if text[0] == "{" or text[-1] == "}":
            return _set(inner) if len(parts) > 1 and text[0] == "{" and text[-1] == "}" else None
        if len(parts) > 1:
            return Items(text[0] + text[-1], tuple(_items(inner)))
        if text[0] + text[-1] == "()" and split(inner, "[=<>]") != [inner]:
            return _item(inner)
    return None


def _items(inner: str) -> Iterator[Structure]:
    grouped = ", " in inner
    separator = r"[,;](?!\d{3}(?!\d))|[,;](?=\s)" if grouped else ";" if ";" in inner else ","
    for part in split(inner, separator):
        if re.fullmatch(r"\s*0\d{2}\s*", part):
            raise UnreadError("thousands, or a list")
        yield _item(part)


def _set(inner: str) -> Structure:
    condition = split(inner, r"\\mid(?![a-zA-Z])|\||:")
    if len(condition) == 2 and re.fullmatch(r"\s*[a-zA-Z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?)?\s*", condition[0]):
        return _alternatives(condition[1])
    if not inner.strip():
        return Items("set", ())
    return Items("set", tuple(part for item in _items(inner) for part in _flat(item)))


def _relation(text: str) -> Structure | None:
    ops = [_OPS.get(match["op"], match["op"]) for match in _RELATIONS.finditer(text)]
    parts = split(text, rf"(?:{_RELATIONS.pattern.replace('?P<op>', '?:')})")
    if len(parts) == 1 or len(parts) != len(ops) + 1:
        return None
    if not all(part.strip() for part in parts):
        raise UnreadError("a bound")
    if any(re.search(r"\\(?:approx|equiv|to|pmod|mapsto|rightarrow|Rightarrow|implies)(?![a-zA-Z])", p) for p in parts):
        raise UnreadError("another relation")
    if len(parts) == 2:
        return _two_sided(parts[0], ops[0], parts[1])
    if len(parts) == 3 and ops[0][0] == ops[1][0] and ops[0][0] in "<>":
        return _between(parts, ops)
    if set(ops) == {"="} and _NAMED.fullmatch(parts[0]):
        return _two_sided(parts[0], "=", parts[-1])  # x = 2 + 3 = 5
    raise UnreadError("a chain of relations")


def _two_sided(left: str, op: str, right: str) -> Structure:
    name = re.sub(r"\s", "", left) if _NAMED.fullmatch(left) else None
    if op == "=" and name is not None and (values := _values(right)) is not None:
        return Items("or", tuple(Relation(Symbol(name), op, value, name) for value in values))
    if name is None and op == "=" and _WORDS.fullmatch(left.strip()) and len(left.strip()) > 2:
        return _item(right)  # Area = 5
    if op == "=" and _LETTERS.fullmatch(left) and right.strip().startswith("("):
        return _item(right)  # (x, y) = (1, 2)
    left_node = Symbol(name) if name is not None and _WHOLE_NAME.fullmatch(name) else read(left)
    if name is not None and isinstance(left_node, Symbol):
        name = left_node.name if left_node.name not in ("pi", "e", "i", "oo") else None
    else:
        name = None
    return Relation(left_node, op, _side(right), name)


def _side(text: str) -> Node:
    """One side of a relation; a unit behind it is taken off."""
    quantity = read_number(text.replace("\\unit{", "\\text{"))
    if quantity is None or quantity.name or (quantity.unit and quantity.unit.dimension in ("percent", "angle")):
        return read(text)
    return Number(quantity.value, None, quantity.decimals)


def _values(text: str) -> tuple[Node, ...] | None:
    """The two values of ±."""
    item = _plus_minus(text)
    if not isinstance(item, Items):
        return None
    return tuple(each.node for each in item.items if isinstance(each, Expression))


def _between(parts: list[str], ops: list[str]) -> Structure:
    low, middle, high = parts
    if ops[0][0] == ">":
        low, high, ops = high, low, [FLIPPED[ops[1]], FLIPPED[ops[0]]]
    node = read(middle)
    if not isinstance(node, Symbol):
        raise UnreadError("bounds of something that is no letter")
    return Reals((Span(_side(low), _side(high), (ops[0] == "<=", ops[1] == "<=")),), node.name)


def _measured(text: str) -> Structure | None:
    quantity = read_number(text.replace("\\unit{", "\\text{"))
    if quantity is None or (quantity.unit is not None and quantity.unit.dimension == "angle" and "=" in text):
        return None
    return Measured(quantity)


def _plus_minus(text: str) -> Structure | None:
    if "\\pm" not in text and "\\mp" not in text:
        return None
    node = read(text)
    return Items("or", (Expression(_signed(node, "+")), Expression(_signed(node, "-"))))


def _signed(node: Node, sign: str) -> Node:
    if not isinstance(node, Call):
        return node
    args = tuple(_signed(arg, sign) for arg in node.args)
    if node.name in ("pm", "mp"):
        same = (node.name == "pm") == (sign == "+")
        return Call("+" if same else "-", args)
    return Call(node.name, args)


def _words(text: str) -> Words | None:
    """A text of words; None for single letters and for what may be a product of two."""
    if not _WORDS.fullmatch(text) or (
        text.isascii() and max(map(len, re.split(r"[ ,]+", text))) < 3 and not _SEGMENT.fullmatch(text)
    ):
        return None
    return Words(normalise(text))
