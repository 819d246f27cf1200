"""Read mathematics, written in LaTeX or plainly, into a tree - all of it, or not at all.

Whatever the grammar does not know raises UnreadError, so that nothing is compared that was read in part.
"""

from __future__ import annotations

from fractions import Fraction

from cohobate.evaluation.mathematics.tree import (
    FUNCTIONS,
    GREEK,
    Call,
    Node,
    Number,
    Symbol,
    Token,
    UnknownError,
    UnreadError,
    based,
    tokens,
)

_SAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_TIMES = {"\\times", "\\cdot", "*", "×", "·", "⋅", "\\ast"}
_DIVIDED = {"/", "\\div", "÷", ":"}
_FRACTIONS = {"\\frac", "\\dfrac", "\\tfrac", "\\cfrac"}
_PREFIXES = {"pi", "infty", "sqrt", "binom", "dbinom", "lfloor", "lceil", "lvert"}
_FENCES = {"lfloor": ("floor", "\\rfloor"), "lceil": ("ceil", "\\rceil"), "lvert": ("abs", "\\rvert")}
# Letters before a parenthesis that name a function rather than a factor.
_FUNCTION_LETTERS = frozenset("fghFGH")
_MINUS_ONE = Call("neg", (Number(Fraction(1)),))
_MOST_DEPTH = 40
_LONGEST = 400
_MOST_TOKENS = 150


def read(text: str) -> Node:
    """The tree of one expression. Raises UnreadError."""
    reader = _Reader(tokens(text[:_LONGEST]))
    if len(text) > _LONGEST or len(reader.tokens) > _MOST_TOKENS:
        raise UnreadError("too long")
    node = reader.expression()
    if reader.at < len(reader.tokens):
        raise UnknownError(f"not understood: {reader.peek()}")
    return node


class _Reader:
    """Recursive descent: sums of products of powers of atoms."""

    def __init__(self, tokens_: list[Token]) -> None:
        self.tokens, self.at, self.depth = tokens_, 0, 0
        self.bars: list[int] = []

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def token(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, text: str | None = None) -> Token:
        token = self.token()
        if token is None or (text is not None and token.text != text):
            raise UnreadError(f"{text or 'something'} is missing")
        self.at += 1
        return token

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise UnreadError("too deep")
        node = self.signed()
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign = self.take().text
            node = Call(sign.lstrip("\\"), (node, self.product()))
        self.depth -= 1
        return node

    def signed(self) -> Node:
        if self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign = self.take().text
            if sign == "-" and self.peek() == "-":
                raise UnreadError("two signs")
            node = self.product()
            if sign == "+":
                return node
            return Call("neg", (node,)) if sign == "-" else Call(sign.lstrip("\\"), (Number(Fraction(0)), node))
        return self.product()

    def product(self) -> Node:
        node = self.factor_or_sign()
        divided = False
        while True:
            if self.peek() in _TIMES:
                self.take()
                node = Call("*", (node, self.factor_or_sign()))
            elif self.peek() in _DIVIDED:
                self.take()
                node, divided = Call("/", (node, self.factor_or_sign())), True
            elif self.begins_atom():
                if divided:
                    raise UnreadError("a quotient before a product without a sign is read in two ways")
                if self.token() and self.tokens[self.at].kind in ("number", "based"):
                    raise UnreadError("a number after another one")
                node = Call("*", (node, self.power()))
            else:
                return node

    def factor_or_sign(self) -> Node:
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.power(),))
        return self.power()

    def begins_atom(self) -> bool:
        token = self.token()
        if token is None:
            return False
        if token.kind in ("number", "based", "letter", "name"):
            return True
        if token.text == "|":
            return not self.bars
        return token.text in ("(", "[", "{") or (token.kind == "command" and self.is_atom_command(token.text))

    @staticmethod
    def is_atom_command(command: str) -> bool:
        return command in _FRACTIONS or command[1:] in GREEK | FUNCTIONS | _PREFIXES

    def power(self) -> Node:
        node = self.postfixed(self.atom())
        if self.peek() == "^":
            self.take()
            if self.peek() == "\\circ":
                self.take()
                return Call("degrees", (node,))
            exponent = self.exponent()
            if exponent == Symbol("degrees"):
                return Call("degrees", (node,))
            node = self.postfixed(Call("^", (node, exponent)))
            if self.peek() == "^":
                raise UnreadError("a power of a power without braces is read in two ways")
        return node

    def postfixed(self, node: Node) -> Node:
        while self.peek() in ("!", "°", "%", "\\%"):
            mark = self.take().text
            node = Call({"!": "factorial", "°": "degrees"}.get(mark, "percent"), (node,))
        return node

    def exponent(self) -> Node:
        if self.peek() == "{":
            self.take()
            if self.peek() == "\\circ":
                self.take()
                self.take("}")
                return Symbol("degrees")
            node = self.expression()
            self.take("}")
            return node
        if self.peek() == "-":
            self.take()
            return Call("neg", (self.power(),))
        return self.postfixed(self.atom())

    def atom(self) -> Node:
        token = self.token()
        if token is None:
            raise UnreadError("an end where something is missing")
        if token.kind == "number":
            return self.number()
        if token.kind == "based":
            self.take()
            return based(token.text)
        if token.kind == "letter":
            node = self.symbol(self.take().text)
            if self.peek() == "(" and token.text in _FUNCTION_LETTERS and not self.tokens[self.at].spaced:
                raise UnreadError("a function, or a product")
            return node
        if token.kind == "name":
            self.take()
            return self.function(token.text)
        if token.text in ("(", "[", "{"):
            return self.group()
        if token.text == "|":
            return self.bars_group()
        if token.kind == "command":
            return self.command(self.take().text[1:])
        raise UnknownError(f"not understood: {token.text}")

    def number(self) -> Node:
        text = self.take().text
        decimals = len(text.partition(".")[2]) if "." in text else None
        node = Number(Fraction(f"0{text}" if text.startswith(".") else text), None, decimals)
        if decimals is not None and self.peek() == "\\overline":
            raise UnknownError("a repeating decimal")
        return self.mixed(node) if decimals is None else node

    def mixed(self, units: Number) -> Node:
        r"""1\frac{1}{2} and 1 1/2 are mixed numbers."""
        following = self.tokens[self.at : self.at + 3]
        if following and following[0].text in _FRACTIONS:
            at = self.at
            self.take()
            parts = [arg for arg in self.fraction().args if isinstance(arg, Number) and arg.value.denominator == 1]
            if len(parts) < 2:
                self.at = at
                return units
            over, under = parts[0].value, parts[1].value
        elif len(following) == 3 and following[1].text == "/" and following[0].text.isdigit() and following[0].spaced:
            self.at += 3
            over, under = Fraction(following[0].text), Fraction(following[2].text if following[2].text.isdigit() else 0)
        else:
            return units
        if not 0 < over < under:
            raise UnreadError("a number before a fraction is a mixed number or a product")
        return Number(units.value + over / under)

    def symbol(self, name: str) -> Node:
        if self.peek() == "'":
            raise UnreadError("a derivative")
        if self.peek() == "_":
            self.take()
            return Symbol(f"{name}_{self.index()}")
        return Symbol(name)

    def index(self) -> str:
        if self.peek() != "{":
            return self.take().text
        self.take()
        text = ""
        while self.peek() not in ("}", ""):
            text += self.take().text
        self.take("}")
        return text

    def group(self) -> Node:
        opening = self.take().text
        bars, self.bars = self.bars, []
        node = self.expression()
        self.bars = bars
        self.take({"(": ")", "[": "]", "{": "}"}[opening])
        return node

    def bars_group(self) -> Node:
        self.take("|")
        self.bars.append(self.at)
        node = self.expression()
        self.bars.pop()
        self.take("|")
        return Call("abs", (node,))

    def braced(self) -> Node:
        """An argument in braces, or the one token that TeX takes."""
        if self.peek() == "{":
            return self.group()
        token = self.token()
        if token is not None and token.kind == "number" and len(token.text) > 1:
            digit, rest = token.text[0], token.text[1:]
            self.tokens[self.at] = Token("number", rest, False)
            if not rest.isdigit():
                raise UnreadError("a decimal without braces")
            return Number(Fraction(digit))
        return self.atom()

    def fraction(self) -> Call:
        return Call("/", (self.braced(), self.braced()))

    def command(self, name: str) -> Node:
        if "\\" + name in _FRACTIONS:
            return self.fraction()
        if name == "sqrt":
            return self.root()
        if name == "pi":
            return Symbol("pi")
        if name == "infty":
            return Symbol("oo")
        if name in ("binom", "dbinom"):
            return Call("binom", (self.braced(), self.braced()))
        if name in _FENCES:
            function, closing = _FENCES[name]
            node = self.expression()
            self.take(closing)
            return Call(function, (node,))
        if name in FUNCTIONS:
            return self.function(name)
        if name in GREEK:
            return self.symbol(name)
        raise UnknownError(f"a command: {name}")

    def root(self) -> Node:
        degree: Node = Number(Fraction(2))
        if self.peek() == "[":
            self.take()
            degree = self.expression()
            self.take("]")
        token = self.token()
        # \sqrt20 is meant as the root of 20, whatever TeX makes of it.
        radicand = self.number() if token is not None and token.kind == "number" else self.braced()
        return Call("root", (radicand, degree))

    def function(self, name: str) -> Node:
        name = _SAME.get(name, name)
        if name == "sqrt":
            return Call("root", (self.group() if self.peek() == "(" else self.atom(), Number(Fraction(2))))
        base: Node | None = None
        exponent: Node | None = None
        if self.peek() == "_":
            self.take()
            base = self.braced()
        if self.peek() == "^":
            self.take()
            exponent = self.exponent()
            if exponent == _MINUS_ONE and name in ("sin", "cos", "tan"):
                name, exponent = f"arc{name}", None
            elif not isinstance(exponent, Number):
                raise UnreadError("a power of a function")
        if name in ("gcd", "lcm", "max", "min"):
            return Call(name, self.arguments())
        argument = self.argument()
        if name == "log" and base is not None:
            node: Node = Call("logbase", (argument, base))
        elif base is not None:
            raise UnreadError("an index of a function")
        else:
            node = Call(name, (argument,))
        return node if exponent is None else Call("^", (node, exponent))

    def argument(self) -> Node:
        if self.peek() in ("(", "[", "{"):
            return self.postfixed(self.group())
        node = self.power()
        while self.begins_atom() and not self.is_function() and self.peek() not in ("(", "["):
            if self.tokens[self.at].kind == "number":
                break
            node = Call("*", (node, self.power()))
        return node

    def is_function(self) -> bool:
        token = self.token()
        return token is not None and (token.kind == "name" or token.text[1:] in FUNCTIONS - {"sqrt"})

    def arguments(self) -> tuple[Node, ...]:
        self.take("(")
        args = [self.expression()]
        while self.peek() == ",":
            self.take()
            args.append(self.expression())
        self.take(")")
        return tuple(args)
