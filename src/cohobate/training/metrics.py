"""Metrics of a step: means over its tokens, compute so far, repetition in its rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cohobate.models.token_loss import Terms
from cohobate.store.compute_ledger import LedgerEntry, is_teacher
from cohobate.training.types import Metrics

_NGRAM = 4


def averages(terms: Terms, tokens: int) -> Metrics:
    """Means of the summed terms over `tokens` tokens; maxima unchanged."""
    return {
        name: float(value) if name.endswith("_max") else float(value) / max(1, tokens) for name, value in terms.items()
    }


def flops_by_model(entries: list[LedgerEntry]) -> Metrics:
    """{teacher_flops, student_flops} of the training work so far; evaluation is not part of a method's cost."""
    method = [entry for entry in entries if entry.work != "evaluation"]
    return {
        "teacher_flops": sum(entry.flops for entry in method if is_teacher(entry.model)),
        "student_flops": sum(entry.flops for entry in method if entry.model == "student"),
    }


def write_table(rows: list[Metrics], path: Path) -> None:
    """Write `rows` as Parquet; a column that some rows lack (a replayed step has no rollout time) is null there."""
    import polars as pl

    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path, compression="zstd")


def repetition(responses: Sequence[Sequence[int]]) -> float:
    """Share of 4-grams of token ids that occurred earlier in the same response: near 1 in a loop."""
    total = repeated = 0
    for ids in responses:
        if len(ids) >= _NGRAM:
            grams = np.lib.stride_tricks.sliding_window_view(np.asarray(ids), _NGRAM)
            total += len(grams)
            repeated += len(grams) - len(np.unique(grams, axis=0))
    return repeated / total if total else 0.0
