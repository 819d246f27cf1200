"""A reason for every sample that curation rejects: polars tables in, one table of labels out.

Each filter sees only what the ones before it left, so that every reject has one reason and the counts add up. What a
sample or a question is by itself comes first; duplicates come last, so that the one that is kept is one that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl

from cohobate import progress
from cohobate.config import Curation
from cohobate.curation.contamination import contaminated
from cohobate.curation.duplicates import exact, near
from cohobate.curation.words import words

# Of the questions that are left, the places of those to reject, each with a detail.
Filter = Callable[[pl.DataFrame], dict[int, str | None]]
_LABELS = {"question_id": pl.String, "reason": pl.String, "detail": pl.String}


def label(triples: Path, evaluation: pl.DataFrame, config: Curation) -> pl.DataFrame:
    """question_id, reason, detail of each sample in the artifact's order; both null for those that stay.

    `evaluation` holds question_id and question of the evaluation questions.
    """
    samples = _label_samples(triples, config)
    left = samples.filter(pl.col("reason").is_null()).select("question_id").unique()
    questions = _label_questions(_questions(triples, left), evaluation, config)
    joined = samples.join(questions, on="question_id", how="left", maintain_order="left", suffix="_question")
    return joined.select(
        "question_id",
        pl.coalesce("reason", "reason_question").alias("reason"),
        pl.when(pl.col("reason").is_null()).then("detail_question").otherwise("detail").alias("detail"),
    )


def _label_samples(triples: Path, config: Curation) -> pl.DataFrame:
    tokens = pl.col("completion_tokens")
    cut = pl.when(pl.col("truncated") & (not config.keep_truncated)).then(pl.lit("truncated response"))
    too_long = pl.when(tokens > config.max_tokens).then(pl.lit("long response")) if config.max_tokens else pl.lit(None)
    detail = pl.when(pl.col("reason").is_not_null()).then(pl.format("{} tokens", tokens))
    return (
        pl.scan_parquet(triples / "triples.parquet")
        .select("question_id", "completion_tokens", pl.coalesce(cut, too_long).cast(pl.String).alias("reason"))
        .select("question_id", "reason", detail.alias("detail"))
        .collect()
    )


def _questions(triples: Path, wanted: pl.DataFrame) -> pl.DataFrame:
    """question_id, question, pass_rate of the wanted questions, in the order of their first samples."""
    rates = pl.scan_parquet(triples / "aggregates.parquet").select("question_id", "pass_rate")
    return (
        pl.scan_parquet(triples / "triples.parquet")
        .select("question_id", "question")
        .unique("question_id", keep="first", maintain_order=True)
        .join(wanted.lazy(), on="question_id", how="semi", maintain_order="left")
        .join(rates, on="question_id", how="left", maintain_order="left")
        .collect()
    )


def _label_questions(questions: pl.DataFrame, evaluation: pl.DataFrame, config: Curation) -> pl.DataFrame:
    """question_id, reason, detail of the rejected questions."""
    left, rejected = questions, [pl.DataFrame(schema=_LABELS)]
    for reason, find in _filters(evaluation, config):
        found = find(left)
        at = list(found)
        names = left["question_id"].gather(at)
        labels = {"question_id": names, "reason": [reason] * len(at), "detail": list(found.values())}
        rejected.append(pl.DataFrame(labels, schema=_LABELS))
        left = left.remove(pl.int_range(pl.len()).is_in(at))
        progress.say(f"{reason}: {len(at):,} questions, {len(left):,} left")
    return pl.concat(rejected)


def _filters(evaluation: pl.DataFrame, config: Curation) -> Iterator[tuple[str, Filter]]:
    if config.min_words:
        yield "short question", partial(_length, low=config.min_words, high=None)
    if config.max_words is not None:
        yield "long question", partial(_length, low=0, high=config.max_words)
    if config.pass_rate is not None:
        low, high = config.pass_rate
        yield "pass rate", partial(_pass_rate, low=low, high=high)
    # A long n-gram holds the shorter ones: beginning with the longest keeps the stronger reason.
    for n in sorted(config.ngrams, reverse=True):
        yield f"{n}-gram of an evaluation question", partial(_contaminated, evaluation=evaluation, n=n)
    if config.duplicates:
        yield "duplicate question", lambda left: _named(left, exact(left["question"].to_list()))
    if config.near_duplicates:
        threshold = config.near_duplicates
        yield "near-duplicate question", lambda left: _named(left, near(left["question"].to_list(), threshold))


def _length(left: pl.DataFrame, low: int, high: int | None) -> dict[int, str | None]:
    counts = enumerate(len(words(text)) for text in left["question"])
    return {at: f"{count} words" for at, count in counts if count < low or (high is not None and count > high)}


def _pass_rate(left: pl.DataFrame, low: float, high: float) -> dict[int, str | None]:
    rates = enumerate(left["pass_rate"].to_list())
    return {
        at: "undecided" if rate is None else f"{rate:.3f}"
        for at, rate in rates
        if rate is None or not low <= rate <= high
    }


def _contaminated(left: pl.DataFrame, evaluation: pl.DataFrame, n: int) -> dict[int, str | None]:
    names = evaluation["question_id"]
    found = contaminated(left["question"].to_list(), evaluation["question"].to_list(), n)
    return {at: names[source] for at, source in found.items()}


def _named(left: pl.DataFrame, found: dict[int, int]) -> dict[int, str | None]:
    """The detail of a duplicate is the question that stays."""
    names = left["question_id"]
    return {at: names[kept] for at, kept in found.items()}
