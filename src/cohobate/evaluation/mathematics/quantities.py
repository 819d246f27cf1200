"""Read the number in an answer, with its unit: 1,234.5, 3/4, 1 1/2, 6.02e23, 12 %, $5, 5 h 30 min, 9.8 m/s², x = 5."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction

from cohobate.core.answer_text import plain_characters
from cohobate.evaluation.mathematics.units import MULTIPLES, Unit, scales, unit

# Longer texts are no number; the limit also bounds the time that reading takes.
_LONGEST = 200
_MOST_PARTS = 4
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?![\d/])|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_POWER = (
    r"(?:[eE](?P<e>[-+]?\d{1,3})(?![\d.])|\s*(?:[×x*·]|\\times|\\cdot)\s*10\s*\^\s*\{?(?P<ten>[-+]?\d{1,3})\}?(?!\d))"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<before>[$€£₹]?)\s*(?P<inner>-?)(?:"
    rf"(?P<mixed>\d+\s+(?=\d+\s*/|\\)|\d+(?=\\))?(?:\\[dtc]?frac\s*(?:\{{(?P<over>-?\d+)\}}\s*\{{(?P<under>-?\d+)\}}"
    rf"|(?P<over1>\d)\s*(?P<under1>\d))|(?P<left>\d+)\s*/\s*(?P<right>\d+))"
    rf"|0x(?P<hex>[0-9a-fA-F]{{1,16}})\b|(?P<decimal>{_DECIMAL}){_POWER}?)",
    re.ASCII,
)
_UNIT_WORD = r"[^\W\d_]++(?:\^?\{?-?[1-4]\}?)?(?!\d)"
_UNIT = re.compile(
    rf"\s*(?:°\s*[CFK]\b|[%¢€£°₹]|(?:(?:square|cubic|sq\.?)\s+)?{_UNIT_WORD}"
    rf"(?:(?:\s*/\s*|\s+per\s+|[ ·*]+)(?!(?:and|or)\b){_UNIT_WORD}){{0,2}})"
)
# Letters that are algebra or connect sentences rather than name a unit: 2pi is not two of something.
_NO_UNIT = re.compile(
    r"\s*(?:pi|π|e|i|and|or|to|sqrt|sin|cos|tan|log|ln|r|remainder|if|when|where|for|not|but|x|is|mod|squared|cubed|times|factorial|[rcp]\d|a\.?m|p\.?m)\b",
    re.IGNORECASE,
)
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf|textit|textnormal|textrm|operatorname)\s*\{([^{}]*)\}")
_MULTIPLE = re.compile(r"\s*(hundred|thousand|million|billion|trillion|dozen)s?\b|k\b", re.IGNORECASE)
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree\b|\\circ\b")
# Thin spaces between groups of digits, alone and behind a comma.
THIN = re.compile(r"(?<=\d)\\[,!](?=\d{3}(?!\d))")
THIN_GROUPS = re.compile(r"(?<=\d),\\!\s*(?=\d{3}(?!\d))")
_NOISE = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle|quad|qquad|big|Big)(?![a-zA-Z])|\\[()]|\\\[|\\\]|\*\*|~")
_QUALIFIER = re.compile(r"(?:≈|\\approx|approximately|approx\.?|about|roughly|exactly|around|ca\.)\s*", re.IGNORECASE)
_NAME = re.compile(
    r"\s*((?:[^\W\d_]|\\[a-zA-Z]+)(?:_\{?\w{1,6}\}?)?(?:\([^\W\d_]\))?|[^\W\d_]{3,20}(?: [^\W\d_]{2,20}){0,2})\s*="
)
_SUM = re.compile(r"[-+*/×÷·\d.,\s()]+=")


@dataclass(frozen=True)
class Quantity:
    """A number with its unit. value: as written (12 for 12 %). integer: whether it is written as one.

    decimals: digits behind the point where it is a plain decimal. name: of what it is, in `x = 5`. attached: the unit
    is a letter without a space before it: 5m may be five metres, or five times m.
    """

    value: Fraction
    integer: bool
    unit: Unit | None = None
    decimals: int | None = None
    name: str = ""
    attached: bool = False

    @property
    def plain(self) -> bool:
        """A bare number."""
        return self.unit is None

    @property
    def percent(self) -> bool:
        """Whether it is a percentage."""
        return self.unit is not None and self.unit.dimension == "percent"


def tidy(text: str) -> str:
    """Plain characters and spaces; without the delimiters of mathematics, emphasis, and commands that only set type."""
    text = plain_characters(text)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() and not c.isascii() else c for c in text)
    text = text.replace("\\%", "%").replace("{,}", ",").replace("\\$", "\x00")
    text = THIN_GROUPS.sub(",", THIN.sub("", text))
    while text.count("$") >= 2 and re.search(r"\$[^$]*\$", text):
        text = re.sub(r"\$([^$]*)\$", r" \1 ", text, count=1)
    text = text.replace("\x00", "$")
    text = _NOISE.sub(" ", _WRAPPED.sub(r" \1 ", _DEGREES.sub("°", text)))
    return " ".join(text.split()).replace(" ^", "^")


def read_number(text: str) -> Quantity | None:
    """The number that all of `text` is, with its unit if any; None where it is anything else."""
    if len(text) > _LONGEST:
        return None
    text = tidy(text)
    if text.endswith(".."):  # it goes on
        return None
    text = text.rstrip(".").strip() or text
    name = ""
    if "=" in text:
        text, name = _right_side(text)
    text = _QUALIFIER.sub("", text, count=1) if _QUALIFIER.match(text) else text
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1 and "," not in text:
        text = text[1:-1].strip()
    quantity = _sum(text)
    return replace(quantity, name=name) if quantity and name else quantity


def _right_side(text: str) -> tuple[str, str]:
    """The number and the name in `x = 5`, or `2 + 3 = 5`; nothing where the left side says more than a name."""
    left, _, right = text.rpartition("=")
    if match := _NAME.fullmatch(left + "="):
        return right.strip(), match[1].replace(" ", "").lower() if len(match[1]) < 3 else ""
    if "=" not in left and _SUM.fullmatch(left + "="):
        return right.strip(), ""
    first, _, middle = left.partition("=")
    if (match := _NAME.fullmatch(first + "=")) and _SUM.fullmatch(middle + "="):
        return right.strip(), match[1] if len(match[1]) < 3 else ""
    return "", ""


def _sum(text: str) -> Quantity | None:
    """One number with its unit, or several of one dimension: 5 h 30 min."""
    total: Quantity | None = None
    for _ in range(_MOST_PARTS):
        one = _one(text)
        if one is None:
            return None
        quantity, rest = one
        if total is None:
            total = quantity
        elif (
            total.unit is None
            or quantity.unit is None
            or total.unit.dimension != quantity.unit.dimension
            or total.unit.dimension is None
            or quantity.unit.factor >= total.unit.factor
            or total.percent
            or total.value < 0
        ):
            return None
        else:
            factor = quantity.unit.factor
            value = total.value * total.unit.factor / factor + quantity.value
            total = Quantity(value, total.integer and quantity.integer, quantity.unit)
        text = re.sub(r"^\s*(?:,|and\b)?\s*", "", rest)
        if not text:
            return total if not rest.strip(" .") else None
    return None


def _one(text: str) -> tuple[Quantity, str] | None:
    """The number at the beginning of `text`, with its unit, and what follows."""
    match = _NUMBER.match(text)
    if not match or not (value := _value(match)):
        return None
    if match["sign"] and match["inner"]:
        return None
    number = value[0]
    if "-" in (match["sign"], match["inner"]):
        number = -number
    written = match["decimal"]
    exponent = match["e"] or match["ten"]
    integer = bool(match["hex"]) or (written is not None and "." not in written and not exponent)
    decimals = len(written.partition(".")[2]) if written and "." in written and not exponent else None
    rest = text[match.end() :]
    if multiple := _MULTIPLE.match(rest):
        if multiple[0] == "K" and not match["before"]:  # thousands, or kelvins
            return None
        number, rest = number * MULTIPLES[(multiple[1] or "k").lower()], rest[multiple.end() :]
    if match["before"]:
        return Quantity(number, integer, unit(match["before"]), decimals), rest
    if not rest.strip():
        return Quantity(number, integer, None, decimals), ""
    words = _UNIT.match(rest)
    if not words or _NO_UNIT.match(rest) or scales(words[0]) or not _separate(rest, words):
        return (Quantity(number, integer, None, decimals), rest) if rest[0] == "," else None
    name = re.sub(r"^(°)\s+(?=[CF]$)", r"\1", words[0].strip())
    attached = len(name) == 1 and name.isalpha() and rest[0] == name
    return Quantity(number, integer, unit(name), decimals, attached=attached), rest[words.end() :]


def _separate(rest: str, words: re.Match[str]) -> bool:
    """Whether letters are a unit and not algebra: single ones only as the units that they are."""
    name = words[0].strip()
    if len(name) == 1 and name.isalpha():
        return name in "mgshlLJNWVAKΩ"
    return not re.match(r"\S?\(", rest[words.end() :]) and "=" not in rest


def _value(match: re.Match[str]) -> tuple[Fraction] | None:
    if match["hex"]:
        return (Fraction(int(match["hex"], 16)),)
    if match["decimal"] is not None:
        power = int(match["e"] or match["ten"] or 0)
        digits = match["decimal"].replace(",", "").replace(" ", "")
        return (Fraction(f"0{digits}" if digits.startswith(".") else digits.rstrip(".")) * Fraction(10) ** power,)
    over = int(match["over"] or match["over1"] or match["left"])
    under = int(match["under"] or match["under1"] or match["right"])
    if under == 0:
        return None
    if match["mixed"]:
        if not 0 < over < under:
            return None
        return (int(match["mixed"]) + Fraction(over, under),)
    return (Fraction(over, under),)


def another_convention(text: str) -> Fraction | None:
    """The number where a comma is the decimal sign, or points group thousands: 1,5 and 1.000; None for other texts."""
    bare = tidy(text).lstrip("$€£₹ ")
    if match := re.match(r"(-?\d+),(\d+)(?![\d,.])", bare):
        return Fraction(f"{match[1]}.{match[2]}")
    if match := re.match(r"(-?\d{1,3}(?:\.\d{3})+)(?:,(\d+))?(?![\d,.])", bare):
        return Fraction(match[1].replace(".", "") + (f".{match[2]}" if match[2] else ""))
    return None
