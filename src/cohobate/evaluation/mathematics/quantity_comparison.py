"""Compare two quantities: their numbers exactly or within a tolerance, and their units."""

from __future__ import annotations

from fractions import Fraction

from cohobate.evaluation.mathematics.quantities import Quantity, another_convention
from cohobate.evaluation.mathematics.units import Unit, conversions
from cohobate.evaluation.verifiers.verdict import ANOTHER, CORRECT, Verdict

ANOTHER_UNIT = Verdict("undecided", "another unit")
ATTACHED = Verdict("undecided", "a unit, or a letter")
ROUNDED = Verdict("undecided", "a rounded value")
NEARLY_ZERO = Verdict("undecided", "nearly 0")
CONVENTION = Verdict("undecided", "another decimal sign")
ANOTHER_NAME = Verdict("undecided", "the value of another name")
# 0.30000000000000004 is what floating-point arithmetic makes of 0.3.
_NOISE_DIGITS = 14
# Dimensions between which a factor exists that the table of units does not hold.
_RELATED = ({"time", "months"}, {"volume", "length^3"}, {"energy", "calories"}, {"angle", "radian"}, {"time", "length"})
_TEMPERATURES = {"temperature C", "temperature F", "temperature K"}


def compare_quantities(actual: Quantity, expected: Quantity, tolerance: float) -> Verdict:
    """Whether they are the same number of the same unit.

    A percentage equals both its number and a hundredth of it where the other is none; a number below 1 may be a share,
    so that 0.5% for 0.5 leaves it undecided. A unit may be missing on one side. Units of one
    dimension are converted; units that cannot be compared leave it undecided.
    """
    if actual.name and expected.name and actual.name != expected.name:
        return ANOTHER_NAME
    if actual.percent != expected.percent and (actual.plain or expected.plain):
        verdict = _numbers(_share(actual), _share(expected), tolerance)
        if verdict is not ANOTHER:
            return verdict
        verdict = _numbers(actual, expected, tolerance)
        return ANOTHER_UNIT if verdict == CORRECT and abs(expected.value) < 1 else verdict
    if actual.unit is None or expected.unit is None:
        verdict = _numbers(actual, expected, tolerance)
        if verdict == CORRECT and (actual.attached or expected.attached):
            return ATTACHED
        return ANOTHER_UNIT if verdict is ANOTHER and _converts(actual, expected, tolerance) else verdict
    if actual.unit.dimension and expected.unit.dimension:
        return _of_known_units(actual, actual.unit, expected, expected.unit, tolerance)
    if _same_words(actual.unit.name, expected.unit.name):
        return _numbers(actual, expected, tolerance)
    return ANOTHER_UNIT


def unless_convention(answer: str, gold: str, actual: Quantity, expected: Quantity) -> Verdict:
    """Undecided where the numbers are equal if one is read as other countries write it: 1,5 or 1.000."""
    left, right = another_convention(answer), another_convention(gold)
    equal = (left is not None and left in (right, expected.value)) or (right is not None and right == actual.value)
    return CONVENTION if equal else ANOTHER


def _of_known_units(actual: Quantity, unit: Unit, expected: Quantity, expected_unit: Unit, tolerance: float) -> Verdict:
    dimensions = {unit.dimension, expected_unit.dimension}
    if len(dimensions) == 1:
        if unit.factor == expected_unit.factor:
            return _numbers(actual, expected, tolerance)
        values = _exact(actual.value * unit.factor), _exact(expected.value * expected_unit.factor)
        return _numbers(*values, tolerance)
    if dimensions <= _TEMPERATURES:
        values = _exact(_celsius(actual.value, unit)), _exact(_celsius(expected.value, expected_unit))
        return _numbers(*values, tolerance)
    if any(dimensions <= related for related in _RELATED) or _numbers(actual, expected, tolerance) is not ANOTHER:
        return ANOTHER_UNIT
    return ANOTHER


def _numbers(actual: Quantity, expected: Quantity, tolerance: float) -> Verdict:
    """The verdict on the numbers alone."""
    if _close(actual, expected, tolerance):
        return CORRECT
    if expected.value == 0 and abs(actual.value) <= tolerance:
        return NEARLY_ZERO
    return ROUNDED if rounds(actual, expected.value) or rounds(expected, actual.value) else ANOTHER


def rounds(rounded: Quantity, value: Fraction) -> bool:
    """Whether `rounded` is a decimal of at least two significant digits that `value` rounds to, or noise of floats."""
    if not rounded.decimals:
        return False
    if rounded.decimals >= _NOISE_DIGITS and abs(rounded.value - value) <= abs(value) * Fraction(1, 10**_NOISE_DIGITS):
        return True
    significant = len(str(abs(int(rounded.value * 10**rounded.decimals))))
    half = Fraction(1, 2 * 10**rounded.decimals)
    return significant > 1 and rounded.value != 0 and abs(rounded.value - value) <= half


def _converts(actual: Quantity, expected: Quantity, tolerance: float) -> bool:
    """Whether they are equal in another unit, where only one of them has one."""
    unit = actual.unit or expected.unit
    if unit is None:
        return False
    measured, bare = (actual, expected) if actual.unit else (expected, actual)
    return any(_close(_exact(measured.value * factor), bare, tolerance) for factor in conversions(unit))


def _celsius(value: Fraction, unit: Unit) -> Fraction:
    if unit.dimension == "temperature F":
        return (value - 32) * 5 / 9
    return value - Fraction("273.15") if unit.dimension == "temperature K" else value


def _share(quantity: Quantity) -> Quantity:
    if not quantity.percent:
        return quantity
    value = quantity.value / 100
    return Quantity(value, value.denominator == 1, None, (quantity.decimals or 0) + 2)


def _exact(value: Fraction) -> Quantity:
    return Quantity(value, value.denominator == 1)


def _same_words(first: str, second: str) -> bool:
    """Whether one unit's words are all among the other's: apples, red apples."""
    left, right = set(first.split()), set(second.split())
    return left <= right or right <= left


def _close(actual: Quantity, expected: Quantity, tolerance: float) -> bool:
    if (actual.integer and expected.integer) or not tolerance:
        return actual.value == expected.value
    return abs(actual.value - expected.value) <= Fraction(tolerance) * abs(expected.value)
