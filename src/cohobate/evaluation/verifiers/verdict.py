"""Verdicts - correct, incorrect or undecided, with a reason for everything but correct - and what gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cohobate.core.answer_text import usable

Label = Literal["correct", "incorrect", "undecided"]
# Opens the reason where a verifier raised an error.
FAILED = "the verifier failed"
# Begins the name of a judge as a verifier.
JUDGE_PREFIX = "judge:"
# Characters behind an answer with which it may go on: 5, 5.2, 5 km.
_OPEN_END = " \t.,:/"


@dataclass(frozen=True)
class Verdict:
    """The label of one sample, and why it is not `correct`."""

    label: Label
    reason: str | None = None


CORRECT = Verdict("correct")
ANOTHER = Verdict("incorrect", "another answer")
NO_ANSWER = Verdict("undecided", "unparseable answer")
NO_GOLD = Verdict("undecided", "unparseable gold answer")
TRUNCATED = Verdict("undecided", "truncated")
NO_FINAL_ANSWER = Verdict("undecided", "no final answer")


@dataclass(frozen=True)
class Case:
    """An extracted final answer (None where there is none) to compare with a gold answer, and its context."""

    answer: str | None
    gold: str | None
    truncated: bool = False
    question: str = ""
    response: str = ""
    document: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the response was truncated before its answer, or maybe within it: it might have ended well."""
        return self.truncated and (self.answer is None or self.response.rstrip(_OPEN_END).endswith(self.answer))


class Verifier(Protocol):
    """Gives verdicts; implementations are frozen dataclasses.

    name and version identify its verdicts. settings: what else changes them, as JSON values.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def check(self) -> None:
        """Refuse before anything is spent. Raises VerifierError, EndpointError or ModelError."""

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order.

        done: called with the number of cases newly decided. paid_by: who pays for a judge's replies.
        """


def without_gold(case: Case) -> Verdict | None:
    """The verdict on a case without a usable gold answer; None where there is one."""
    if case.gold is None:
        return Verdict("undecided", "no gold answer")
    return None if usable(case.gold) else Verdict("undecided", "unusable gold answer")


def without_comparison(case: Case) -> Verdict | None:
    """The verdict on a case without a usable gold answer or without a whole answer; None where there are both."""
    if (verdict := without_gold(case)) is not None:
        return verdict
    if case.is_cut:
        return TRUNCATED
    return NO_FINAL_ANSWER if case.answer is None else None


@dataclass(frozen=True)
class ComparingVerifier:
    """A verifier that compares answer and gold answer at once, in this process."""

    name: str
    version: int
    compare: Callable[[str, str], Verdict]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing can be wrong."""

    def verdict(self, case: Case) -> Verdict:
        """The verdict on one case."""
        return without_comparison(case) or self.compare(case.answer or "", case.gold or "")

    def verdicts(self, cases: Sequence[Case], done: Callable[[int], None], paid_by: str) -> list[Verdict]:
        """A verdict for each case, in order."""
        verdicts = [self.verdict(case) for case in cases]
        done(len(verdicts))
        return verdicts
