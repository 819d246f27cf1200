"""What the judge says to every answer of every question, and how often that is right.

A judge answers at temperature 0, so each pair of question and answer is judged once, however often the policy tries it.
Where gold answers are known the exact verifier knows every pair too: that is what the judge is held against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.config import TinyPolicySettings, Verification
from cohobate.core.errors import QuestionsError
from cohobate.core.statistics import wilson
from cohobate.evaluation.verifiers import judge
from cohobate.evaluation.verifiers.verdict import Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.store.ledger import LedgerEntry

# The classic policy knows no third reward: whatever is not +1 counts as -1.
REWARDS = {"correct": 1.0, "incorrect": -1.0, "undecided": -1.0}


@dataclass(frozen=True)
class Judged:
    """A row a pair (question, gold_answer, answer, verdict, reason, right), what judging took, and counts of it."""

    table: pl.DataFrame
    ledger: list[LedgerEntry]
    counts: dict[str, Any] | None

    def rewards(self) -> dict[tuple[str, str], float]:
        """+1 or -1 of each (question, answer)."""
        columns = self.table.select("question", "answer", "verdict")
        return {(question, answer): REWARDS[verdict] for question, answer, verdict in columns.iter_rows()}


def possible_answers(config: TinyPolicySettings, questions: pl.DataFrame, where: str) -> tuple[str, ...]:
    """The fixed answers. Raises QuestionsError unless every question's gold answer is among them."""
    missing = questions.filter(pl.col("gold_answer").is_null())
    if len(missing):
        raise QuestionsError(
            f"{where}: {len(missing)} questions have no gold answer (the first: {missing['question'][0]!r}), and a "
            "policy needs one for each; set questions.columns.gold_answer"
        )
    found = tuple(questions["gold_answer"].unique().sort())
    outside = [gold for gold in questions["gold_answer"] if config.answers and gold not in config.answers]
    if outside:
        raise QuestionsError(
            f"{where}: the gold answer '{outside[0]}' is not among policy.answers ({len(outside)} questions have such "
            f"a one); add it to policy.answers ({', '.join(config.answers)}), or correct the question"
        )
    if len(config.answers or found) < 2:
        raise QuestionsError(f"{where}: all gold answers are the same, so there is nothing to choose")
    return config.answers or found


def judge_all(config: TinyPolicySettings, questions: pl.DataFrame, answers: Sequence[str], mark: str) -> Judged:
    """Every answer of every question, judged; raises EndpointError, ModelError or TeacherError of the judge."""
    pairs = [(q, gold, a) for q, gold in questions.select("question", "gold_answer").iter_rows() for a in answers]
    cases = [Case(a, gold, False, q, a) for q, gold, a in pairs]
    right = [verdict.label == "correct" for verdict in verdicts_of(Verification(), cases)]
    ledger: list[LedgerEntry] = []
    counts: dict[str, Any] | None = None
    if config.judge is None:
        verdicts = [Verdict("correct" if ok else "incorrect") for ok in right]
    else:
        verdicts = judge.JudgeVerifier(config.judge).verdicts(cases, lambda count: None, mark)
        ledger, usage = judge.usage(config.judge, cases, "policy", mark)
        counts = usage.as_row()
    columns = {
        "question": [q for q, _, _ in pairs],
        "gold_answer": [gold for _, gold, _ in pairs],
        "answer": [a for _, _, a in pairs],
        "verdict": [verdict.label for verdict in verdicts],
        "reason": pl.Series([verdict.reason for verdict in verdicts], dtype=pl.String),
        "right": right,
    }
    return Judged(pl.DataFrame(columns), ledger, counts)


def accuracy(table: pl.DataFrame) -> dict[str, Any]:
    """How often the judge is right: of all pairs, of the right answers and of the wrong ones, with intervals.

    A reply that is neither +1 nor -1 is not right; `unusable` counts those by kind.
    """
    agrees = ((pl.col("verdict") == "correct") & pl.col("right")) | (
        (pl.col("verdict") == "incorrect") & ~pl.col("right")
    )
    parts = {"all": table, "right": table.filter("right"), "wrong": table.filter(~pl.col("right"))}
    shares = {name: _share(part.select(agrees.sum()).item(), len(part)) for name, part in parts.items()}
    unusable = table.filter(pl.col("verdict") == "undecided")["reason"].str.split(":").list.first()
    return {**shares, "unusable": dict(unusable.value_counts(sort=True).iter_rows())}


def _share(successes: int, n: int) -> dict[str, Any]:
    return {"n": n, **wilson(successes, n).as_row("share")}


def turned(seed: int, noise: float, *place: object) -> bool:
    """Whether the verdict of this place is turned round: depends on nothing but the arguments."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *place))).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < noise
