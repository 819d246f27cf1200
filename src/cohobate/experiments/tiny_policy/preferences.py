"""Preference pairs from a judge's verdicts, in the format of `cohobate export --format preference`."""

from __future__ import annotations

from typing import Any

import polars as pl

from cohobate.experiments.tiny_policy.model import TinyPolicy


def preference_pairs(policy: TinyPolicy, judged: pl.DataFrame) -> list[dict[str, Any]]:
    """One pair {prompt, chosen, rejected} per question with both a correct and an incorrect verdict.

    Chosen is the policy's likeliest answer with the verdict correct, rejected its likeliest incorrect one: the mistake
    that it would make. Undecided answers are in no pair.
    """
    questions = judged["question"].unique(maintain_order=True).to_list()
    verdicts = {(q, a): v for q, a, v in judged.select("question", "answer", "verdict").iter_rows()}
    pairs = []
    for question, ranked in zip(questions, policy.choose(questions), strict=True):
        best = {
            label: next((a for a in ranked if verdicts[question, a] == label), None)
            for label in ("correct", "incorrect")
        }
        if best["correct"] is not None and best["incorrect"] is not None:
            pairs.append(
                {
                    "prompt": [{"role": "user", "content": question}],
                    "chosen": [{"role": "assistant", "content": best["correct"]}],
                    "rejected": [{"role": "assistant", "content": best["incorrect"]}],
                }
            )
    return pairs
