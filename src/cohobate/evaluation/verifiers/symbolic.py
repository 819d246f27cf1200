"""Mathematical equality by the library math-verify. It can hang, even in str(): only a killable worker calls it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from cohobate.core.answer_text import normalise, plain_characters
from cohobate.evaluation.verifiers.verdict import (
    ANOTHER,
    CORRECT,
    FAILED,
    NO_ANSWER,
    NO_GOLD,
    Verdict,
)

_IN_MATHS = ("$", "\\(", "\\[", "\\boxed")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ '-][^\W\d_]+)*")


def compare(answer: str, gold: str) -> Verdict:
    """Whether `answer` is mathematically equal to `gold`.

    The library's own time-outs are off: they use signals, which fail in threads, and come back as "not equal".
    """
    expected, found = _parsed(gold), _parsed(answer)
    if not expected or isinstance(expected[0], str):
        return CORRECT if _same_text(answer, gold) else NO_GOLD
    if not found or isinstance(found[0], str):
        return CORRECT if _same_text(answer, gold) else NO_ANSWER
    verdict = _equal(expected, found)
    if verdict == CORRECT and _is_words(answer) and _is_words(gold) and not _same_text(answer, gold):
        # A word is read as a product of its letters, so that `listen` equals `silent`.
        return Verdict("undecided", "the same letters in another order")
    return verdict


def _equal(expected: list[Any], found: list[Any]) -> Verdict:
    from math_verify import verify

    failure = None
    for gold in expected:
        for answer in found:
            try:
                if verify(gold, answer, timeout_seconds=None, raise_on_error=True):
                    return CORRECT
            except Exception as error:
                failure = failure or type(error).__name__
    return Verdict("undecided", f"{FAILED}: {failure}") if failure else ANOTHER


@lru_cache(maxsize=4096)
def _parsed(text: str) -> list[Any]:
    """What the library makes of `text`: expressions, and the text it found them in; empty where it finds nothing."""
    from math_verify import parse

    text = plain_characters(text).replace("\\$", "").strip()
    return list(parse(text if any(mark in text for mark in _IN_MATHS) else f"${text}$", parsing_timeout=None))


def _same_text(answer: str, gold: str) -> bool:
    return normalise(answer) == normalise(gold)


def _is_words(text: str) -> bool:
    return _WORDS.fullmatch(text.strip()) is not None
