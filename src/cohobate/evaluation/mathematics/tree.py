"""Trees of expressions, and the tokens that a text of mathematics is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class UnreadError(Exception):
    """The text is not wholly understood, or it can be understood in two ways."""


class UnknownError(UnreadError):
    """It holds a command or a sign that this grammar does not know; another reader may."""


@dataclass(frozen=True)
class Number:
    """An exact number. base: of the digits where the text names one. decimals: digits behind a decimal point."""

    value: Fraction
    base: int | None = None
    decimals: int | None = None


@dataclass(frozen=True)
class Symbol:
    """A letter, with its index if any; or one of the constants pi, e, i, oo."""

    name: str


@dataclass(frozen=True)
class Call:
    """`name` is an operator (+ - * / ^ neg pm mp) or a function."""

    name: str
    args: tuple[Node, ...]


Node = Number | Symbol | Call


class Token(NamedTuple):
    """kind: based, number, command, letter, name (a function's), other. spaced: whether a space stands before it."""

    kind: str
    text: str
    spaced: bool


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONSTANTS = _names("pi e i oo")
FUNCTIONS = _names(
    "sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log exp sqrt gcd lcm max min abs"
)
GREEK = _names(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell"
)
_GREEK_LETTERS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Ξ": "Xi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<based>[0-9A-F]+_(?:\{\s*\d{1,2}\s*\}|\d)(?!\d))|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<command>\\(?:[a-zA-Z]+|[{}|%]))|(?P<word>[a-zA-Z]+)|(?P<other>.)",
    re.DOTALL,
)
_LEADING_ZEROS = re.compile(r"0\d")
_SCIENTIFIC = re.compile(r"\d[eE][-+]?\d")
_DERIVATIVE = re.compile(
    r"frac\s*\{\s*(?:d|\\partial)(?:\s*[a-z]|\^)?\b[^{}]*\}\s*\{\s*(?:d|\\partial)|\bd[a-z]?\s*/\s*d[a-z]\b"
)


def tokens(text: str) -> list[Token]:
    """The tokens of a text. Raises UnreadError for words, and for an e that may be Euler's number or a power of ten."""
    if _DERIVATIVE.search(text):
        raise UnknownError("a derivative")
    if _SCIENTIFIC.search(text):
        raise UnreadError("e is Euler's number or a power of ten")
    result: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup or "", match[0]
        if kind == "space":
            spaced = True
            continue
        if kind == "number" and _LEADING_ZEROS.match(piece):
            raise UnreadError("a date, or a number in another notation")
        if kind == "word":
            result += _letters(piece, spaced)
        elif piece in _GREEK_LETTERS:
            result.append(Token("command", "\\" + _GREEK_LETTERS[piece], spaced))
        else:
            result.append(Token(kind, piece, spaced))
        spaced = False
    return result


def _letters(word: str, spaced: bool) -> list[Token]:
    """A function's name, pi, or a product of two letters; longer words and names such as AB are none."""
    if word in FUNCTIONS:
        return [Token("name", word, spaced)]
    if word.lower() == "pi":
        return [Token("command", "\\pi", spaced)]
    if word.endswith("pi") and len(word) == 3:
        return [Token("letter", word[0], spaced), Token("command", "\\pi", False)]
    if len(word) > 2 or (len(word) == 2 and word.isupper()):  # a segment, or a product of matrices
        raise UnreadError(f"a word: {word}")
    return [Token("letter", letter, spaced and n == 0) for n, letter in enumerate(word)]


def based(text: str) -> Number:
    """A number with its base, such as 101_2. Raises UnreadError where the digits do not fit the base."""
    digits, _, index = text.partition("_")
    base = int(index.strip("{} "))
    if not digits[0].isdigit() and (len(digits) < 2 or base != 16):
        raise UnreadError("an index")
    try:
        return Number(Fraction(int(digits, base)), base)
    except ValueError:
        raise UnreadError("digits that are too large for their base") from None
