"""Rationale and answer of a response: polars expressions over the columns of triples.parquet.

A response is split at the end of its rationale. A rationale comes from a separate field of the server's reply
(`field`), from the marks of a thought (`think`), or from the text before the final answer (`content`): the column
rationale_source.
"""

from __future__ import annotations

import polars as pl

from cohobate.core.answer_parsing import THINK_CLOSE, THINK_OPEN, after_thinking

COLUMNS = ("question", "conversation", "response", "rationale", "answer", "rationale_source")
_BOX = "\\boxed{"


def rationale() -> pl.Expr:
    """The rationale; null where the whole response is the answer.

    Prose without a final answer is no rationale: it is the visible response.
    """
    separate = pl.col("rationale_source").is_in(["field", "think"])
    return pl.when(separate | _before_an_answer()).then(pl.col("rationale"))


def visible() -> pl.Expr:
    """The visible response: without its rationale, in the teacher's own words.

    A boxed answer in the middle of a sentence is written as a box alone.
    """
    after_thoughts = pl.col("response").map_elements(after_thinking, return_dtype=pl.String)
    statement = after_thoughts.str.splitn(pl.col("rationale"), 2).struct.field("field_1")
    boxed = pl.concat_str(pl.lit(_BOX), pl.col("answer"), pl.lit("}"))
    tail = pl.when(statement.str.contains(_BOX, literal=True)).then(boxed).otherwise(statement)
    text = pl.when(_before_an_answer()).then(tail).otherwise(after_thoughts)
    return text.fill_null("").str.strip_chars()


def tagged() -> pl.Expr:
    """Rationale and visible response in one text, as reasoning models write it: the rationale between think tags."""
    both = pl.concat_str(pl.lit(f"{THINK_OPEN}\n"), rationale(), pl.lit(f"\n{THINK_CLOSE}\n\n"), visible())
    return pl.when(rationale().is_not_null()).then(both).otherwise(visible())


def _before_an_answer() -> pl.Expr:
    return (pl.col("rationale_source") == "content") & pl.col("answer").is_not_null()
