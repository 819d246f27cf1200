"""What a model thought and what it said: polars expressions over the columns of triples.parquet.

A response is split where its rationale ends. A rationale comes from a field of the server's own (`field`), from think
tags (`think`), or stands plainly before the final answer (`content`); rationale_source says which.
"""

from __future__ import annotations

import polars as pl

COLUMNS = ("question", "response", "rationale", "answer", "rationale_source")
_OPEN, _CLOSE = "<think>", "</think>"
_BOX = "\\boxed{"


def thinking() -> pl.Expr:
    """The rationale; null where the whole response is the answer.

    Prose without a final answer is no rationale: it is what the reader was given.
    """
    apart = pl.col("rationale_source").is_in(["field", "think"])
    return pl.when(apart | _before_an_answer()).then(pl.col("rationale"))


def spoken() -> pl.Expr:
    """What the reader is given: the response without its rationale, in the teacher's own words.

    A boxed answer in the middle of a sentence is written as a box of its own.
    """
    after_tags = pl.col("response").str.split(_CLOSE).list.last().str.replace_all(_OPEN, "", literal=True)
    plain = pl.col("response").str.replace_all(_OPEN, "", literal=True)
    statement = plain.str.splitn(pl.col("rationale"), 2).struct.field("field_1")
    boxed = pl.concat_str(pl.lit(_BOX), pl.col("answer"), pl.lit("}"))
    tail = pl.when(statement.str.contains(_BOX, literal=True)).then(boxed).otherwise(statement)
    said = pl.when(_before_an_answer()).then(tail).otherwise(after_tags)
    return said.fill_null("").str.strip_chars()


def tagged() -> pl.Expr:
    """Thinking and speech in one text, as reasoning models write it: <think>, the rationale, </think>, the answer."""
    said = spoken()
    whole = pl.concat_str(pl.lit(f"{_OPEN}\n"), thinking(), pl.lit(f"\n{_CLOSE}\n\n"), said)
    return pl.when(thinking().is_not_null()).then(whole).otherwise(said)


def _before_an_answer() -> pl.Expr:
    return (pl.col("rationale_source") == "content") & pl.col("answer").is_not_null()
