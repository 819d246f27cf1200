"""The ids of samples: every column `sample_id` is built here, as an expression over other columns of its table."""

from __future__ import annotations

import polars as pl


def triple_id() -> pl.Expr:
    """A triple, in all artifacts: the first 20 hex digits of its request's key. Columns: request_key."""
    return pl.col("request_key").str.slice(0, 20)


def rollout_id() -> pl.Expr:
    """A rollout, within its artifact. Columns: step, row."""
    return pl.format("{}-{}", "step", "row")


def answer_id() -> pl.Expr:
    """A response in an evaluation, within its artifact. Columns: student, decoding, question_id, sample_index."""
    return pl.format("{}-{}-{}-{}", "student", "decoding", pl.col("question_id").str.slice(0, 12), "sample_index")
