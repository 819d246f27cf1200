"""The verifier `math`: the same number, expression, equation, list, set, interval, choice or words.

Answers are read wholly and compared exactly in this process, in a bounded time. What cannot be read so goes to the
library math-verify, which can hang, even in str(): only workers call it. Its verdict counts where it says that the two
are equal and it has read both of them wholly; everything else stays undecided.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cohobate.core.answer_text import normalise, plain_characters
from cohobate.evaluation.mathematics.arithmetic import UndefinedError
from cohobate.evaluation.mathematics.latex import prepare
from cohobate.evaluation.mathematics.quantities import another_convention, read_number
from cohobate.evaluation.mathematics.quantity_comparison import compare_quantities, unless_convention
from cohobate.evaluation.mathematics.structure_comparison import same
from cohobate.evaluation.mathematics.structure_reading import structure
from cohobate.evaluation.mathematics.structures import Structure
from cohobate.evaluation.mathematics.tree import UnknownError, UnreadError
from cohobate.evaluation.verifiers.choices import read_choice, same_choice
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

NOT_COMPARED = Verdict("undecided", "not comparable with the gold answer")
READ_IN_PART = Verdict("undecided", "read in part only")
# Where a space means something: 1 1/2, 2e - 3.
_SPACED = re.compile(r"\d \d|\d ?e ?[-+]? ?\d", re.IGNORECASE)
_IN_MATHS = ("$", "\\(", "\\[", "\\boxed")
_NEARLY = re.compile(r"≈|\\simeq(?![a-zA-Z])")
# What is changed to see whether the library has read it: numbers, signs, letters and commands.
_PARTS = re.compile(r"\d+|[+\-*/=<>!^]|\\[a-zA-Z]+|[a-zA-Z]+|[^\s\w{}()\[\],.$\\&]")
_SETS_TYPE = re.compile(r"\\(?:left|right|text|d?frac|tfrac|mathrm|begin|end|displaystyle|int|sum)")
_OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "+", "=": "<", "<": "=", ">": "=", "!": "", "^": "+"}
_MOST_PARTS = 40
_RANGE = re.compile(r"\d+\s*[-–—]\s*\d+")  # years, or a difference


class MathVerifier(PooledVerifier):
    """Compares without a worker what is read wholly."""

    def at_once(self, case: Case) -> Verdict | None:
        """The verdict on a case without answer or gold answer, or on two answers that are both read wholly."""
        try:
            return without_comparison(case) or compare_whole(case.answer or "", case.gold or "")
        except Exception as error:  # as in a worker: an answer that breaks the comparison costs its own verdict only
            return Verdict("undecided", f"{FAILED}: {type(error).__name__}")

    def payload(self, case: Case) -> Payload:
        """Answer and gold answer."""
        return case.answer, case.gold


def verifier(spec: Verification) -> MathVerifier:
    """Equality by mathematics; processor time per answer that the library reads: the recipe's."""
    settings = {"seconds": spec.seconds, "library": version("math-verify")}
    return MathVerifier("math", 2, settings, Job("math", spec.seconds, spec.workers))


def compare_whole(answer: str, gold: str) -> Verdict | None:
    """The verdict where both are read wholly; None where one is not."""
    if _same_text(answer, gold):
        return CORRECT
    choice = same_choice(answer, gold)
    if choice is not None:
        return CORRECT if choice else ANOTHER
    if (verdict := _choice_text(answer, gold)) is not None:
        return verdict
    if (exact := _before_approximation(answer)) or _before_approximation(gold):
        verdict = compare_whole(exact or answer, _before_approximation(gold) or gold)
        return CORRECT if verdict == CORRECT else NOT_COMPARED
    expected, actual = read_number(gold), read_number(answer)
    if expected is not None and actual is not None:
        verdict = compare_quantities(actual, expected, 0)
        if verdict is ANOTHER and _spaced_commas(answer) == _spaced_commas(gold):
            return NOT_COMPARED
        return verdict if verdict is not ANOTHER else unless_convention(answer, gold, actual, expected)
    try:
        right, left = _structure(gold), _structure(answer)
    except UnknownError:
        return None
    except UnreadError:
        return NO_ANSWER if _is_read(gold) else NO_GOLD
    try:
        equal = same(left, right)
    except UndefinedError:
        equal = None
    if equal is None:
        return NOT_COMPARED
    if not equal and (
        _another_convention(answer, gold) or _shouted(answer, gold) or _spaced_commas(answer) == _spaced_commas(gold)
    ):
        return NOT_COMPARED
    if equal and bool(_RANGE.fullmatch(answer.strip("$ "))) != bool(_RANGE.fullmatch(gold.strip("$ "))):
        return NOT_COMPARED
    return CORRECT if equal else ANOTHER


@lru_cache(maxsize=4096)
def _structure(text: str) -> Structure:
    return structure(text)


def _before_approximation(text: str) -> str:
    r"""The exact value in `1/3 \approx 0.33`; "" for other texts."""
    before, sign, after = _NEARLY.sub(r"\\approx ", text).partition("\\approx")
    return before.strip("$ ") if sign and after.strip("$ ") else ""


def _is_read(text: str) -> bool:
    try:
        _structure(text)
    except UnreadError:
        return False
    return True


def _choice_text(answer: str, gold: str) -> Verdict | None:
    """The verdict where one side is a choice with its text and the other only a text."""
    actual, expected = read_choice(answer), read_choice(gold)
    if bool(actual and actual.text) == bool(expected and expected.text) or (actual and expected):
        return None
    texts = (actual.text, gold) if actual and actual.text else (answer, expected.text if expected else "")
    return CORRECT if compare_whole(*texts) == CORRECT else NOT_COMPARED


def _another_convention(answer: str, gold: str) -> bool:
    """Whether they are the same number if a comma is the decimal sign: 1,5 is no list then."""
    for text, other in ((answer, gold), (gold, answer)):
        value, number = another_convention(text), read_number(other)
        if value is not None and number is not None and value == number.value:
            return True
    return False


def _spaced_commas(text: str) -> str:
    """The text in one spelling of commas: 12,345 may be the list 12, 345."""
    return re.sub(r",\s+", ",", prepare(text) if "\\" in text else text.strip())


def _shouted(answer: str, gold: str) -> bool:
    """Whether an answer such as 42! is the gold number with an exclamation mark."""
    return any(
        a.strip().endswith("!") and _same_text(a.strip().rstrip("!"), b) for a, b in ((answer, gold), (gold, answer))
    )


def _same_text(answer: str, gold: str) -> bool:
    """Whether they are the same but for spaces and spelling; letters keep their case in formulae."""
    if " ".join(answer.split()) == " ".join(gold.split()):
        return True
    left, right = prepare(answer), prepare(gold)
    if not left or left.replace(" ", "") != right.replace(" ", ""):
        return False
    return left == right or not _SPACED.search(left + right)


# ---- in a worker ----


def compare(answer: str, gold: str) -> Verdict:
    """The verdict; of the library only where both are not read wholly by this process.

    The library's own time-outs are off: they use signals, which fail in threads, and come back as "not equal".
    """
    verdict = compare_whole(answer, gold)
    if verdict is not None:
        return verdict
    expected, actual = _parsed(gold), _parsed(answer)
    if not expected or isinstance(expected[0], str):
        return CORRECT if normalise(answer) == normalise(gold) else NO_GOLD
    if not actual or isinstance(actual[0], str):
        return CORRECT if normalise(answer) == normalise(gold) else NO_ANSWER
    verdict = _equal(expected, actual)
    if verdict == CORRECT and not (_reads_whole(answer) and _reads_whole(gold)):
        return READ_IN_PART
    return NOT_COMPARED if verdict == ANOTHER else verdict


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


def _reads_whole(text: str) -> bool:
    """Whether the library reads something else wherever a number, a sign or a letter is another one."""
    parts = list(_PARTS.finditer(text))
    if len(parts) > _MOST_PARTS or not prepare(text).isascii():
        return False
    if re.search(r"[A-Z]{2}", text):  # points, whose order the library does not see
        return False
    return not any(
        _same_reading(text, text[: part.start()] + other + text[part.end() :])
        for part in parts
        for other in _others(part[0])
    )


def _others(part: str) -> tuple[str, ...]:
    """What is put in place of a part; nothing for a command that only sets type."""
    if part.isdigit():
        return (str(int(part) + 1),)
    if part.startswith("\\"):
        return () if _SETS_TYPE.fullmatch(part) else ("\\zeta ", " ")
    if part.isalpha():
        return () if part.endswith("matrix") else ("q" if part != "q" else "w",)
    return (_OPERATORS[part],) if part in _OPERATORS else ("+", "")


def _same_reading(text: str, other: str) -> bool:
    first, second = _parsed(text), _parsed(other)
    return bool(second) and [str(each) for each in first[:1]] == [str(each) for each in second[:1]]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> list[Any]:
    """The expressions that the library reads in `text`, and the text it read them from; empty where there is none."""
    from math_verify import parse

    text = plain_characters(text).replace("\\$", "").strip()
    return list(parse(text if any(mark in text for mark in _IN_MATHS) else f"${text}$", parsing_timeout=None))
