"""Select samples of a triples artifact by verdict, length and pass rate.

One generation serves several selections. Only the columns that the rules need are read, never the texts, so that an
artifact of a million rows is selected in little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from cohobate.core.errors import SelectionError

SelectionRule = Literal["all", "correct", "first_correct", "shortest_correct"]
RULES: tuple[SelectionRule, ...] = get_args(SelectionRule)


@dataclass(frozen=True)
class Selection:
    """A rule, and limits on the samples that it allows.

    rule: all; correct: the verified ones; first_correct, shortest_correct: the verified ones in the order of their
    sample index or of their length, one per question unless `per_question` is given. per_question: at most so many
    samples of a question; None: the rule's own number. pass_rate: only questions whose pass rate lies in this closed
    interval.
    """

    rule: SelectionRule = "correct"
    per_question: int | None = None
    pass_rate: tuple[float, float] | None = None

    @property
    def limit(self) -> int | None:
        """The most samples of a question; None: no limit."""
        one_each = self.rule in ("first_correct", "shortest_correct")
        return self.per_question or (1 if one_each else None)


def window(text: str | None) -> tuple[float, float] | None:
    """An interval of pass rates written as LOW:HIGH. Raises SelectionError."""
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        interval = float(low), float(high)
    except ValueError:
        interval = (1.0, 0.0)
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise SelectionError(f"--pass-rate {text}: write it as low:high with 0 <= low <= high <= 1, such as 0.2:0.8")
    return interval


def outline(triples: Path, verifier: str | None = None) -> pl.DataFrame:
    """One row per sample, in the artifact's order, with the columns that rules read.

    Columns row, sample_id, question_id, sample_index, completion_tokens, truncated, verdict, pass_rate. Raises
    SelectionError when a sample has verdicts of several verifiers and `verifier` names none of them.
    """
    columns = ["sample_id", "question_id", "sample_index", "completion_tokens", "truncated"]
    samples = pl.scan_parquet(triples / "triples.parquet").select(columns).with_row_index("row")
    rates = pl.scan_parquet(triples / "aggregates.parquet").select("question_id", "pass_rate")
    return (
        samples.join(_verdicts(triples, verifier).lazy(), on="sample_id", how="left", maintain_order="left")
        .join(rates, on="question_id", how="left", maintain_order="left")
        .with_columns(pl.col("verdict").fill_null("undecided"))
        .collect()
    )


def _verdicts(triples: Path, verifier: str | None) -> pl.DataFrame:
    """sample_id, verdict: of one verifier, by the newest of its versions."""
    table = pl.read_parquet(triples / "verdicts.parquet")
    names = table["verifier"].unique().sort().to_list()
    # In a mix of artifacts each sample may have been judged by another verifier.
    if verifier is None and len(names) > 1 and _judged_twice(table):
        raise SelectionError(f"{triples.name} has verdicts of {', '.join(names)}; name one of them with --verifier")
    if verifier is not None and verifier not in names:
        raise SelectionError(f"{triples.name} has no verdicts of '{verifier}'; it has: {', '.join(names) or 'none'}")
    if verifier is not None:
        table = table.filter(pl.col("verifier") == verifier)
    newest = table.filter(pl.col("verifier_version") == pl.col("verifier_version").max().over("sample_id"))
    return newest.select("sample_id", "verdict").unique("sample_id", keep="last", maintain_order=True)


def _judged_twice(table: pl.DataFrame) -> bool:
    return len(table.select("sample_id", "verifier").unique()) > table["sample_id"].n_unique()


def choose(samples: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    """The rows of an `outline` that `selection` takes, in the outline's order."""
    allowed = _in_window(samples, selection)
    if selection.rule != "all":
        allowed = allowed.filter(pl.col("verdict") == "correct")
    if selection.limit is not None:
        allowed = _ranked(allowed, selection).filter(pl.col("rank") < selection.limit).drop("rank")
    return allowed


def pair(samples: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    """Preference pairs in the order of the chosen: question_id, chosen, rejected (ids), chosen_row, rejected_row.

    The n-th correct sample of a question, in the order of the rule, is preferred to its n-th incorrect one; no sample
    is in two pairs.
    """
    allowed = _in_window(samples, selection)
    sides = {
        side: _ranked(allowed.filter(pl.col("verdict") == verdict), selection if side == "chosen" else Selection())
        for side, verdict in (("chosen", "correct"), ("rejected", "incorrect"))
    }
    chosen, rejected = (
        side.select("question_id", "rank", pl.col("sample_id").alias(name), pl.col("row").alias(f"{name}_row"))
        for name, side in sides.items()
    )
    pairs = chosen.join(rejected, on=["question_id", "rank"], how="inner", maintain_order="left")
    if selection.limit is not None:
        pairs = pairs.filter(pl.col("rank") < selection.limit)
    return pairs.drop("rank")


def _in_window(samples: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    if selection.pass_rate is None:
        return samples
    low, high = selection.pass_rate
    return samples.filter(pl.col("pass_rate").is_between(low, high))


def _ranked(samples: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    """With a column rank: the position of the sample within its question, from 0."""
    shortest = ["completion_tokens"] if selection.rule == "shortest_correct" else []
    order = samples.sort(*shortest, "sample_index", "row")
    return order.with_columns(pl.int_range(pl.len()).over("question_id").alias("rank")).sort("row")
