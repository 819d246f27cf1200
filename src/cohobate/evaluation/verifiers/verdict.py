"""Verdicts: correct / incorrect / undecided, with a reason for everything but correct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cohobate.core.answer_text import usable

Label = Literal["correct", "incorrect", "undecided"]
# Opens the reason where a verifier raised an error.
FAILED = "the verifier failed"


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
