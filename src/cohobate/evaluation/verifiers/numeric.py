"""The verifier `numeric`: the same number, or the same text.

Numbers are read as people and LaTeX write them: 1,234.5, 3/4, 1 1/2, 6.02e23, 12 %, 5 cm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from cohobate.core.answer_text import exactly, plain_characters
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, NO_ANSWER, NO_GOLD, ComparingVerifier, Verdict

if TYPE_CHECKING:
    from cohobate.config import Verification

# Longer texts are no number; the limit also bounds the time that reading takes.
_LONGEST = 200
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:[eE](?P<e>[-+]?\d{1,3})|\s*(?:[×x*]|\\times|\\cdot)\s*10\s*\^\s*\{?(?P<ten>[-+]?\d{1,3})\}?)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:"
    rf"(?P<mixed>\d+\s+|\d+(?=\\))?(?:\\[dt]?frac\s*(?:\{{(?P<over>-?\d+)\}}\s*\{{(?P<under>\d+)\}}"
    rf"|(?P<over1>\d)\s*(?P<under1>\d))|(?P<left>\d+)\s*/\s*(?P<right>\d+))"
    rf"|(?P<decimal>{_DECIMAL}){_POWER}?)",
    re.ASCII,
)
_UNIT_WORD = r"[^\W\d_]+(?:\^?-?\d)?(?![\d.,])"
_UNIT = re.compile(rf"(?P<gap>\s*)(?P<unit>(?:°\s*)?{_UNIT_WORD}(?:[ /·*]+{_UNIT_WORD}){{0,2}}|°)")
# Letters that are algebra rather than a unit: 2pi is not two of something, and neither is 2x.
_ALGEBRA = re.compile(r"(?:pi|π|e|i|and|or|to|sqrt|sin|cos|tan|log|ln)\b", re.IGNORECASE)
_SHORT_UNITS = frozenset("mgshlLJNWVAKCF°")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")
_NOISE = re.compile(r"\\[!,;: ]|\\left|\\right|\\displaystyle|[$€£¥]|\\\(|\\\)|\*\*")


@dataclass(frozen=True)
class Quantity:
    """A number with its unit. value: as written (12 for 12 %). integer: whether it is written as one."""

    value: Fraction
    integer: bool
    percent: bool = False
    unit: str = ""

    @property
    def plain(self) -> bool:
        """Neither a percentage nor a number of units."""
        return not (self.percent or self.unit)


def verifier(spec: Verification) -> ComparingVerifier:
    """Numbers within the recipe's relative tolerance; the same text is correct even where it is no number."""

    def decide(answer: str, gold: str) -> Verdict:
        return CORRECT if exactly(answer, gold) else compare(answer, gold, spec.tolerance)

    return ComparingVerifier("numeric", 1, decide, {"tolerance": spec.tolerance})


def compare(answer: str, gold: str, tolerance: float) -> Verdict:
    """Whether two numbers are equal: integers exactly, others within `tolerance` of the gold one (absolute at 0).

    A percentage equals both its number and a hundredth of it where the other is none. A unit may be missing on one
    side; two different units leave it undecided.
    """
    expected = read_number(gold)
    if expected is None:
        return NO_GOLD
    actual = read_number(answer)
    if actual is None:
        return NO_ANSWER
    if not any(_close(a, b, tolerance) for a, b in _readings(actual, expected)):
        return ANOTHER
    if actual.unit and expected.unit and actual.unit != expected.unit:
        return Verdict("undecided", "another unit")
    return CORRECT


def read_number(text: str) -> Quantity | None:
    """The number that all of `text` is, with its unit if any; None where it is anything else."""
    if len(text) > _LONGEST:
        return None
    text = _tidy(text)
    match = _NUMBER.match(text)
    if not match:
        return None
    value = _value(match)
    if value is None:
        return None
    if match["sign"] == "-":
        value = -value
    integer = match["decimal"] is not None and "." not in match["decimal"] and not (match["e"] or match["ten"])
    rest = text[match.end() :].strip()
    if not rest:
        return Quantity(value, integer)
    if rest.lower() in ("%", "percent", "per cent"):
        return Quantity(value, integer, percent=True)
    unit = _unit(text[match.end() :])
    return None if unit is None else Quantity(value, integer, unit=unit)


def _tidy(text: str) -> str:
    text = plain_characters(text).replace("\\%", "%").replace("\\$", "").replace("{,}", ",")
    text = _NOISE.sub("", _WRAPPED.sub(r" \1", text)).strip()
    text = text.rpartition("=")[2].strip()  # x = 5
    return text.lstrip("≈~ ").rstrip(". ")


def _value(match: re.Match[str]) -> Fraction | None:
    if match["decimal"] is not None:
        power = int(match["e"] or match["ten"] or 0)
        digits = match["decimal"].replace(",", "")
        return Fraction(f"0{digits}" if digits.startswith(".") else digits.rstrip(".")) * Fraction(10) ** power
    over = match["over"] or match["over1"] or match["left"]
    under = match["under"] or match["under1"] or match["right"]
    if int(under) == 0:
        return None
    return int(match["mixed"] or 0) + Fraction(int(over), int(under))


def _unit(rest: str) -> str | None:
    """The unit that all of `rest` is, in one form; None where it is no unit."""
    match = _UNIT.fullmatch(rest.rstrip())
    if not match or _ALGEBRA.match(match["unit"]):
        return None
    unit = match["unit"]
    if len(unit) == 1 and unit not in _SHORT_UNITS:
        return None
    return " ".join(unit.lower().split()).rstrip("s") or unit.lower()


def _readings(actual: Quantity, expected: Quantity) -> list[tuple[Quantity, Quantity]]:
    pairs = [(actual, expected)]
    if actual.percent != expected.percent:
        pairs.append((_share(actual), _share(expected)))
    return pairs


def _share(quantity: Quantity) -> Quantity:
    return Quantity(quantity.value / 100, False) if quantity.percent else quantity


def _close(actual: Quantity, expected: Quantity, tolerance: float) -> bool:
    if actual.integer and expected.integer:
        return actual.value == expected.value
    return abs(actual.value - expected.value) <= Fraction(tolerance) * (abs(expected.value) or 1)
