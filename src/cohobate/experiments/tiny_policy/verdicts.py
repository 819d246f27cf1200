"""Verdicts of the judge on every answer of every question, and how often they are right.

A judge answers at temperature 0, so each pair of question and answer is judged once, however often the policy tries it.
The exact verifier, which compares with the gold answer, is the reference for the judge's accuracy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.config import TinyPolicySettings, Verification
from cohobate.core.errors import QuestionsError
from cohobate.core.statistics import as_json, wilson
from cohobate.evaluation.verifiers import judge
from cohobate.evaluation.verifiers.verdict import Case, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.store.compute_ledger import LedgerEntry

# The classic policy has no third reward: whatever is not +1 counts as -1.
REWARDS = {"correct": 1.0, "incorrect": -1.0, "undecided": -1.0}


@dataclass(frozen=True)
class JudgedPairs:
    """Verdicts with their cost.

    table: one row per pair of question and answer, {question, gold_answer, answer, verdict, reason, right}. counts: of
    the judge's replies and tokens; None for the exact verifier.
    """

    table: pl.DataFrame
    ledger: list[LedgerEntry]
    counts: dict[str, Any] | None

    def rewards(self) -> dict[tuple[str, str], float]:
        """+1 or -1 of each (question, answer)."""
        columns = self.table.select("question", "answer", "verdict")
        return {(question, answer): REWARDS[verdict] for question, answer, verdict in columns.iter_rows()}


def possible_answers(config: TinyPolicySettings, questions: pl.DataFrame, where: str) -> tuple[str, ...]:
    """The fixed answers: those of the settings, else all gold answers.

    Raises QuestionsError unless every question's gold answer is among them, and they are two or more.
    """
    missing = questions.filter(pl.col("gold_answer").is_null())
    if len(missing):
        raise QuestionsError(
            f"{where}: {len(missing)} questions have no gold answer (the first: {missing['question'][0]!r}), and a "
            "policy needs one for each; set questions.columns.gold_answer"
        )
    gold_answers = tuple(questions["gold_answer"].unique().sort())
    outside = [gold for gold in questions["gold_answer"] if config.answers and gold not in config.answers]
    if outside:
        raise QuestionsError(
            f"{where}: the gold answer '{outside[0]}' is not among policy.answers ({len(outside)} questions have such "
            f"a one); add it to policy.answers ({', '.join(config.answers)}), or correct the question"
        )
    if len(config.answers or gold_answers) < 2:
        raise QuestionsError(f"{where}: all gold answers are the same, so there is nothing to choose")
    return config.answers or gold_answers


def judge_all(
    config: TinyPolicySettings, questions: pl.DataFrame, answers: Sequence[str], fingerprint: str
) -> JudgedPairs:
    """Judge every answer of every question; `fingerprint` is that of the artifact that pays for the replies.

    Raises EndpointError, ModelError or TeacherError of the judge.
    """
    pairs = [(q, gold, a) for q, gold in questions.select("question", "gold_answer").iter_rows() for a in answers]
    cases = [Case(a, gold, False, q, a) for q, gold, a in pairs]
    correct = [verdict.label == "correct" for verdict in verdicts_of(Verification(), cases)]
    ledger: list[LedgerEntry] = []
    counts: dict[str, Any] | None = None
    if config.judge is None:
        verdicts = [Verdict("correct" if ok else "incorrect") for ok in correct]
    else:
        verdicts = judge.JudgeVerifier(config.judge).verdicts(cases, lambda count: None, fingerprint)
        ledger, usage = judge.usage(config.judge, cases, "policy", fingerprint)
        counts = as_json(usage)
    columns = {
        "question": [q for q, _, _ in pairs],
        "gold_answer": [gold for _, gold, _ in pairs],
        "answer": [a for _, _, a in pairs],
        "verdict": [verdict.label for verdict in verdicts],
        "reason": pl.Series([verdict.reason for verdict in verdicts], dtype=pl.String),
        "right": correct,
    }
    return JudgedPairs(pl.DataFrame(columns), ledger, counts)


def accuracy(table: pl.DataFrame) -> dict[str, Any]:
    """Share of right verdicts on all pairs, on right answers and on wrong ones, with Wilson intervals.

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


def is_flipped(seed: int, noise: float, *key: object) -> bool:
    """Whether the verdict of `key` is flipped: a pseudo-random share `noise` of keys, by a hash of seed and key."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *key))).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < noise
