"""Verdicts: correct / incorrect / undecided, with a reason for everything but correct."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Label = Literal["correct", "incorrect", "undecided"]
# What datasets write where there is no checkable answer.
GOLD_SENTINELS = frozenset({"", "proof", "notfound", "not found", "none", "n/a", "na", "unknown"})
# Opens the reason where a verifier raised an error.
FAILED = "the verifier failed"

_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_BEFORE_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")


@dataclass(frozen=True)
class Verdict:
    """The label of one sample, and why it is not `correct`."""

    label: Label
    reason: str | None = None


CORRECT = Verdict("correct")
ANOTHER = Verdict("incorrect", "another answer")
NO_ANSWER = Verdict("undecided", "unparseable answer")
NO_GOLD = Verdict("undecided", "unparseable gold answer")


@dataclass(frozen=True)
class Case:
    """What there is to judge: a sample's final answer (None where none was found) against a gold answer."""

    answer: str | None
    gold: str | None
    truncated: bool = False
    question: str = ""
    response: str = ""
    document: str | None = None


@dataclass(frozen=True)
class Verifier:
    """`decide(answer, gold)` gives the verdict on two strings, or None where only a worker can."""

    name: str
    version: int
    decide: Callable[[str, str], Verdict | None]

    def __call__(self, answer: str | None, gold: str | None, *, truncated: bool) -> Verdict:
        """The verdict on an extracted answer, of a verifier that needs no worker."""
        verdict = self.look(Case(answer, gold, truncated))
        assert verdict is not None
        return verdict

    def look(self, case: Case) -> Verdict | None:
        """The verdict, or None where only a worker can decide."""
        if case.gold is None:
            return Verdict("undecided", "no gold answer")
        if not usable(case.gold):
            return Verdict("undecided", "unusable gold answer")
        if case.answer is None:
            # A cut response might have ended well: that is not known to be wrong.
            return Verdict("undecided", "truncated") if case.truncated else Verdict("incorrect", "no final answer")
        return self.decide(case.answer, case.gold)


def usable(gold: str | None) -> bool:
    """Whether a gold answer can decide anything: it is there, and no sentinel such as `proof` or `not found`."""
    return gold is not None and gold.strip().lower() not in GOLD_SENTINELS


def plain_characters(text: str) -> str:
    """NFKC with superscripts as powers (x² is x^2, not x2), 1½ as 1 1/2, and one kind of minus."""
    text = _BEFORE_VULGAR.sub(" ", text)
    text = _SUPERSCRIPTS.sub(lambda power: "^" + power[0].translate(_RAISED), text)
    return unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("\u2044", "/")


def normalise(answer: str) -> str:
    """Plain characters, lower case, single spaces; without $, a final full stop, or commas between digits."""
    text = plain_characters(answer).lower().replace("$", "")
    text = " ".join(text.split()).rstrip(". ")
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), text)


def exactly(answer: str, gold: str) -> bool:
    """Equal after `normalise`."""
    return normalise(answer) == normalise(gold)
