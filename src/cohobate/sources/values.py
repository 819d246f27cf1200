"""The text of a value of any source, as somebody would write it."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

# Floats above hold no single digit before the point exactly.
_EXACT_INTEGERS = 2**53


class RowError(Exception):
    """A row that cannot be used; the message follows the row's place in a sentence."""


def text_of(value: Any, name: str) -> str | None:
    """The value of the column `name` as text; None for none and for NaN.

    A float without a fraction is an integer: a column of integers with a gap is one of floats in most tools. Raises
    RowError for a list, an object, and an infinite number.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple | dict):
        kind = f"an object with {', '.join(map(str, value))}" if isinstance(value, dict) else "a list"
        raise RowError(f"'{name}' holds no text but {kind}; name what is in it as '{name}.{_inside(value)}'")
    if isinstance(value, float | Decimal):
        return _number(value, name)
    return json.dumps(value) if isinstance(value, bool | int) else str(value)


def integer(value: Any) -> int | None:
    """The value of an integer, also of one that was written as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _number(value: float | Decimal, name: str) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise RowError(f"'{name}' holds a number beyond the largest one of 64 bits; write it as text")
    if isinstance(value, Decimal):
        digits = f"{value:f}"
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return str(int(value)) if value.is_integer() and abs(value) <= _EXACT_INTEGERS else repr(value)


def _inside(value: Any) -> str:
    return str(next(iter(value), "field")) if isinstance(value, dict) else "0"
