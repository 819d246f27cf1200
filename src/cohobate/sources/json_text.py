"""JSON from outside, with bounds: what a value may hold so that every later reader takes it."""

from __future__ import annotations

import json
import re
from typing import Any

# Deeper values exhaust the stack of some reader; Parquet has the same limit.
DEEPEST = 100
_LONGEST_INTEGER = 1000
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """A text that is no JSON, or beyond the bounds; the message follows its place in a sentence."""


def parse(text: str) -> Any:
    """The value of a JSON text, half surrogate pairs as U+FFFD. Raises JsonError."""
    try:
        value = json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise JsonError(f"is not JSON: {error.msg}") from None
    except RecursionError:
        raise _too_deep() from None
    if text.count("[") + text.count("{") > DEEPEST and _is_deeper(value, DEEPEST):
        raise _too_deep()
    return _whole(value) if has_half_pair(text) else value


def has_half_pair(text: str) -> bool:
    r"""Whether a JSON text has an escape such as \ud83d without its other half."""
    if not _SURROGATE_ESCAPE.search(text):
        return False
    paired = re.sub(r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w", "", text)
    return _SURROGATE_ESCAPE.search(paired) is not None


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise JsonError(f"holds a number of {len(digits):,} digits; write it as text, or drop it")
    return int(digits)


def _too_deep() -> JsonError:
    return JsonError(f"is nested more than {DEEPEST} levels deep; flatten or drop what is in it")


def _is_deeper(value: Any, levels: int) -> bool:
    inner = [value]
    for _ in range(levels + 1):
        inner = [
            item
            for each in inner
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not inner:
            return False
    return True


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value
