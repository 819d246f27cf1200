"""The verifier `math`: equality by the library math-verify, which can hang, even in str(): only workers call it."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cohobate.core.answer_text import normalise, plain_characters
from cohobate.evaluation.verifiers.numeric import read_number
from cohobate.evaluation.verifiers.pool import Job, Payload
from cohobate.evaluation.verifiers.pooled import PooledVerifier
from cohobate.evaluation.verifiers.verdict import (
    ANOTHER,
    CORRECT,
    FAILED,
    NO_ANSWER,
    NO_GOLD,
    Case,
    Verdict,
    without_comparison,
)

if TYPE_CHECKING:
    from cohobate.config import Verification

# math-verify rounds decimals to six places: a larger difference is another number for it too.
_CLEARLY = Fraction(1, 100_000)
_IN_MATHS = ("$", "\\(", "\\[", "\\boxed")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ '-][^\W\d_]+)*")


class MathVerifier(PooledVerifier):
    """Compares without a worker where no algebra is needed."""

    def at_once(self, case: Case) -> Verdict | None:
        """The verdict on a case without answer or gold answer, on the same text, or on two plain numbers."""
        return without_comparison(case) or _without_algebra(case.answer or "", case.gold or "")

    def payload(self, case: Case) -> Payload:
        """Answer and gold answer."""
        return case.answer, case.gold


def verifier(spec: Verification) -> MathVerifier:
    """Equality by math-verify, within the recipe's processor time per answer."""
    settings = {"seconds": spec.seconds, "library": version("math-verify")}
    return MathVerifier("math", 1, settings, Job("math", spec.seconds, spec.workers))


def _without_algebra(answer: str, gold: str) -> Verdict | None:
    """The verdict on the same text, or on two plain numbers that are equal or clearly not."""
    if " ".join(answer.split()) == " ".join(gold.split()):
        return CORRECT
    a, b = read_number(answer), read_number(gold)
    if a is None or b is None or not (a.plain and b.plain):
        return None
    if a.value == b.value:
        return CORRECT
    return ANOTHER if abs(a.value - b.value) > _CLEARLY else None


def compare(answer: str, gold: str) -> Verdict:
    """Whether `answer` is mathematically equal to `gold`.

    The library's own time-outs are off: they use signals, which fail in threads, and come back as "not equal".
    """
    expected, actual = _parsed(gold), _parsed(answer)
    if not expected or isinstance(expected[0], str):
        return CORRECT if _same_text(answer, gold) else NO_GOLD
    if not actual or isinstance(actual[0], str):
        return CORRECT if _same_text(answer, gold) else NO_ANSWER
    verdict = _equal(expected, actual)
    if verdict == CORRECT and _is_words(answer) and _is_words(gold) and not _same_text(answer, gold):
        # A word is read as a product of its letters, so that `listen` equals `silent`.
        return Verdict("undecided", "the same letters in another order")
    return verdict


def _equal(expected: list[Any], actual: list[Any]) -> Verdict:
    from math_verify import verify

    failure = None
    for gold in expected:
        for answer in actual:
            try:
                if verify(gold, answer, timeout_seconds=None, raise_on_error=True):
                    return CORRECT
            except Exception as error:
                failure = failure or type(error).__name__
    return Verdict("undecided", f"{FAILED}: {failure}") if failure else ANOTHER


@lru_cache(maxsize=4096)
def _parsed(text: str) -> list[Any]:
    """The expressions that the library reads in `text`, and the text it read them from; empty where there is none."""
    from math_verify import parse

    text = plain_characters(text).replace("\\$", "").strip()
    return list(parse(text if any(mark in text for mark in _IN_MATHS) else f"${text}$", parsing_timeout=None))


def _same_text(answer: str, gold: str) -> bool:
    return normalise(answer) == normalise(gold)


def _is_words(text: str) -> bool:
    return _WORDS.fullmatch(text.strip()) is not None
