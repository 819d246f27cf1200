"""Verdicts of many samples as tables: verdicts.parquet (a row a sample) and aggregates.parquet (a row a question)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from cohobate import progress, schema, selection
from cohobate.config import Verification
from cohobate.files import write_parquet_atomic
from cohobate.fingerprint import hash_value
from cohobate.verdicts import GOLD_SENTINELS, Case, normalise, usable
from cohobate.verify import judge, verifier

# Rows judged at a time: what a kill can lose.
_CHUNK = 20_000

Label = Callable[[pl.DataFrame], pl.DataFrame]


def label(samples: pl.DataFrame, spec: Verification, scratch: Path | None = None) -> pl.DataFrame:
    """The verdict of each sample, in order: columns of schema.VERDICTS.

    samples: columns sample_id, question_id, question, response, answer, gold_answer, truncated. Chunks that a killed
    call has finished are kept in `scratch` and not judged again. Raises VerifierError for a broken function.
    """
    with labelling(spec, len(samples), scratch) as verdicts:
        return verdicts(samples)


@contextmanager
def labelling(
    spec: Verification, total: int, scratch: Path | None = None
) -> Iterator[Callable[[pl.DataFrame], pl.DataFrame]]:
    """A `label` that is called with one piece of the samples after another, `total` rows in all.

    A piece holds all samples of its questions: the majority is theirs.
    """
    chosen = verifier(spec)
    named = {"verifier": pl.lit(chosen.name), "verifier_version": pl.lit(chosen.version, dtype=pl.Int32)}
    columns = [field.name for field in schema.VERDICTS]
    with _bar(spec, total) as bar:

        def verdicts(samples: pl.DataFrame) -> pl.DataFrame:
            frame = with_gold(samples, majority=spec.majority)
            kept = [_empty(), *(_kept(rows, spec, bar, scratch) for rows in frame.iter_slices(_CHUNK))]
            return pl.concat(kept).with_columns(**named).select(columns)

        yield verdicts


def _kept(rows: pl.DataFrame, spec: Verification, bar: progress.Bar, scratch: Path | None) -> pl.DataFrame:
    """The verdicts of a killed call, or new ones."""
    if not scratch or not spec.needs_workers:  # the others are quicker than a look at the disk
        return _judged(rows, spec, bar)
    path = scratch / f"verdicts-{_mark(rows)}.parquet"
    if path.exists():
        found = pl.read_parquet(path)
        bar.advance(len(found))
        return found
    found = _judged(rows, spec, bar)
    write_parquet_atomic(found.to_arrow(), path)
    return found


def with_gold(samples: pl.DataFrame, *, majority: bool) -> pl.DataFrame:
    """`samples` with `gold` and `gold_from`: the question's own, or where it has no usable one, the majority answer.

    The majority is an answer (after normalisation) of more than half of the question's samples and of at least two:
    samples without an answer count against it.
    """
    text = pl.col("gold_answer").fill_null("").str.strip_chars().str.to_lowercase()
    own = ~text.is_in(list(GOLD_SENTINELS))
    frame = samples.with_columns(
        gold=pl.col("gold_answer"), gold_from=pl.when(own).then(pl.lit("question")).otherwise(None)
    )
    if not majority:
        return frame
    votes = (
        frame.select("question_id", vote=_normalised("answer"))
        .with_columns(n=pl.len().over("question_id"))
        .drop_nulls("vote")
        .group_by("question_id", "vote", "n")
        .agg(votes=pl.len())
        .filter((2 * pl.col("votes") > pl.col("n")) & (pl.col("votes") > 1))
        .select("question_id", "vote")
    )
    voted = frame.join(votes, on="question_id", how="left", maintain_order="left")
    missing = pl.col("gold_from").is_null()
    return voted.with_columns(
        gold=pl.when(missing).then(pl.coalesce("vote", "gold")).otherwise("gold"),
        gold_from=pl.when(missing & pl.col("vote").is_not_null()).then(pl.lit("majority")).otherwise("gold_from"),
    ).drop("vote")


def aggregate(samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Per question, in order: samples, correct ones, pass rate (of the decided), the most frequent answer.

    samples: columns sample_id, question_id, answer.
    """
    joined = samples.select("sample_id", "question_id", vote=_normalised("answer")).join(verdicts, on="sample_id")
    correct, decided = pl.col("verdict") == "correct", pl.col("verdict") != "undecided"
    return (
        joined.group_by("question_id", maintain_order=True)
        .agg(
            pl.len().alias("n"),
            correct.sum().alias("n_correct"),
            decided.sum().alias("decided"),
            pl.col("vote").drop_nulls().mode().sort().first().alias("majority"),
        )
        .with_columns(pl.when(pl.col("decided") > 0).then(pl.col("n_correct") / pl.col("decided")).alias("pass_rate"))
        .select("question_id", "n", "n_correct", "pass_rate", "majority")
    )


def counts(verdicts: pl.DataFrame) -> dict[str, Any]:
    """verifier, verdicts by label, reasons by text, pass_rate (of the decided; None where there are none)."""
    labels = selection.counts(verdicts["verdict"])
    decided = labels.get("correct", 0) + labels.get("incorrect", 0)
    return {
        "verifier": verdicts["verifier"][0] if len(verdicts) else None,
        "verdicts": labels,
        "reasons": selection.counts(verdicts["reason"]),
        "pass_rate": labels.get("correct", 0) / decided if decided else None,
    }


def without_gold(questions: pl.DataFrame) -> int:
    """How many questions have no gold answer that can decide anything."""
    return sum(not usable(gold) for gold in questions["gold_answer"])


@contextmanager
def _bar(spec: Verification, count: int) -> Iterator[progress.Bar]:
    """Drawn only for verifiers that take their time."""
    if spec.needs_workers:
        with progress.bar("verdicts", count, "answers") as bar:
            yield bar
    else:
        yield progress.Bar("verdicts", count, "answers")


def _judged(rows: pl.DataFrame, spec: Verification, bar: progress.Bar) -> pl.DataFrame:
    found = judge(spec, list(_cases(rows)), bar.advance)
    return rows.select(
        "sample_id",
        "gold",
        "gold_from",
        pl.Series("verdict", [v.label for v in found], dtype=pl.String),
        pl.Series("reason", [v.reason for v in found], dtype=pl.String),
    )


def _cases(rows: pl.DataFrame) -> Iterator[Case]:
    for row in rows.select("answer", "gold", "truncated", "question", "response").iter_rows():
        yield Case(*row)


def _empty() -> pl.DataFrame:
    names = ("sample_id", "gold", "gold_from", "verdict", "reason")
    return pl.DataFrame(schema=dict.fromkeys(names, pl.String))


def _normalised(column: str) -> pl.Expr:
    """The normalised text; null where nothing is left of it."""
    text = pl.col(column).map_elements(normalise, return_dtype=pl.String)
    return pl.when(text != "").then(text)


def _mark(rows: pl.DataFrame) -> str:
    return hash_value(rows.select("sample_id", "answer", "gold", "truncated").rows())[:16]
