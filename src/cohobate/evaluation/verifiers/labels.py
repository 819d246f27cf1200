"""Verdicts of many samples as tables: verdicts.parquet (a row a sample) and aggregates.parquet (a row a question)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Verification
from cohobate.core import frequencies, progress, schema
from cohobate.core.answer_text import GOLD_SENTINELS, normalise
from cohobate.core.atomic_files import write_parquet_atomic
from cohobate.core.fingerprint import hash_value
from cohobate.core.statistics import wilson
from cohobate.evaluation.verifiers import judge as judging
from cohobate.evaluation.verifiers.verdict import NO_GOLD, Case
from cohobate.evaluation.verifiers.verify import EXACT, judge, verifier
from cohobate.store.ledger import LedgerEntry

# Rows judged at a time: what a kill can lose.
CHUNK_ROWS = 20_000
_GOLDS_TRIED = 200
_OTHER = "7919"  # any number will do

Label = Callable[[pl.DataFrame], pl.DataFrame]


def label(
    samples: pl.DataFrame, spec: Verification, scratch: Path | None = None, paid_by: str = "verdicts"
) -> pl.DataFrame:
    """The verdict of each sample, in order: columns of schema.VERDICTS.

    samples: columns sample_id, question_id, question, response, answer, gold_answer, truncated, and question_meta if a
    judge shall see documents. Chunks that a killed call has finished are kept in `scratch` and not judged again.
    Raises VerifierError for a broken function, EndpointError and TeacherError of a judge.
    """
    with labelling(spec, len(samples), scratch, paid_by) as verdicts:
        return verdicts(samples)


@contextmanager
def labelling(
    spec: Verification, total: int, scratch: Path | None = None, paid_by: str = "verdicts"
) -> Iterator[Label]:
    """A `label` that is called with one piece of the samples after another, `total` rows in all.

    A piece holds all samples of its questions: the majority is theirs.
    """
    chosen = verifier(spec)
    named = {"verifier": pl.lit(chosen.name), "verifier_version": pl.lit(chosen.version, dtype=pl.Int32)}
    columns = schema.VERDICTS.names
    with _bar(spec, total) as bar:

        def verdicts(samples: pl.DataFrame) -> pl.DataFrame:
            frame = with_gold(samples, majority=spec.majority)
            kept = [_empty(), *(_kept(rows, spec, bar, scratch, paid_by) for rows in frame.iter_slices(CHUNK_ROWS))]
            return pl.concat(kept).with_columns(**named).select(columns)

        yield verdicts


def _kept(
    rows: pl.DataFrame, spec: Verification, bar: progress.Bar, scratch: Path | None, paid_by: str
) -> pl.DataFrame:
    """The verdicts of a killed call, or new ones."""
    if not scratch or not spec.takes_time:  # the others are quicker than a look at the disk
        return _judged(rows, spec, bar, paid_by)
    path = scratch / f"verdicts-{_mark(rows)}.parquet"
    if path.exists():
        found = pl.read_parquet(path)
        bar.advance(len(found))
        return found
    found = _judged(rows, spec, bar, paid_by)
    write_parquet_atomic(found.to_arrow(), path)
    return found


def with_gold(samples: pl.DataFrame, *, majority: bool) -> pl.DataFrame:
    """`samples` with `gold` and `gold_from`: the question's own, or where it has no usable one, the majority answer.

    The majority is an answer (after normalisation) of more than half of the question's samples and of at least two:
    samples without an answer count against it.
    """
    frame = samples.with_columns(
        gold=pl.col("gold_answer"), gold_from=pl.when(has_gold()).then(pl.lit("question")).otherwise(None)
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
    labels = frequencies.counts(verdicts["verdict"])
    decided = labels.get("correct", 0) + labels.get("incorrect", 0)
    return {
        "verifier": verdicts["verifier"][0] if len(verdicts) else None,
        "verdicts": labels,
        "reasons": reasons(verdicts),
        "pass_rate": labels.get("correct", 0) / decided if decided else None,
    }


def reasons(verdicts: pl.DataFrame) -> dict[str, int]:
    """How often each reason occurs, the most frequent first; of judges the kinds of their replies.

    verdicts: columns verifier, verdict, reason.
    """
    judged = pl.col("verifier").str.starts_with(judging.PREFIX)
    kinds = [judging.reason(*row) for row in verdicts.filter(judged).select("verdict", "reason").iter_rows()]
    others = verdicts.filter(~judged)["reason"]
    return frequencies.counts(pl.concat([pl.Series("reason", kinds, dtype=pl.String), others]))


def agreement(samples: pl.DataFrame, verdicts: pl.DataFrame) -> dict[str, Any] | None:
    """How often `verdicts` agree with the exact verifier, on the samples with a gold answer of the question's own.

    {n, agree, share, low, high, only_judge, only_exact, undecided}: n were decided by both, only_judge and only_exact
    were correct for that one alone, undecided were decided by the exact verifier only. low and high: 95% Wilson. None
    where no sample has a gold answer. samples: columns sample_id, answer, truncated.
    """
    known = verdicts.filter(pl.col("gold_from") == "question").select("sample_id", "verdict", "gold")
    rows = known.join(samples.select("sample_id", "answer", "truncated"), on="sample_id")
    exact = [
        EXACT(answer, gold, truncated=cut).label
        for answer, gold, cut in rows.select("answer", "gold", "truncated").iter_rows()
    ]
    decided = Counter(pair for pair in zip(rows["verdict"], exact, strict=True) if pair[1] != "undecided")
    if not decided:
        return None
    agree = decided["correct", "correct"] + decided["incorrect", "incorrect"]
    only = decided["correct", "incorrect"], decided["incorrect", "correct"]
    n = agree + sum(only)
    return {
        "n": n,
        "agree": agree,
        **wilson(agree, n).as_row("share"),
        "only_judge": only[0],
        "only_exact": only[1],
        "undecided": sum(count for (verdict, _), count in decided.items() if verdict == "undecided"),
    }


def judged(
    samples: pl.DataFrame, verdicts: pl.DataFrame, spec: Verification, stage: str, mark: str
) -> tuple[list[LedgerEntry], dict[str, Any]]:
    """The judge's work in `stage`, and {judge: counts of `judging.spent`, with agreement}; nothing for no judge."""
    if spec.judge is None or spec.name != "judge":
        return [], {}
    cases = list(_cases(with_gold(samples, majority=spec.majority)))
    entries, counted = judging.spent(spec.judge, cases, stage, mark)
    return entries, {"judge": {**counted, "agreement": agreement(samples, verdicts)}}


def has_gold() -> pl.Expr:
    """Whether the column gold_answer can decide anything: it is there, and no sentinel such as `proof`."""
    return ~pl.col("gold_answer").fill_null("").str.strip_chars().str.to_lowercase().is_in(list(GOLD_SENTINELS))


def without_gold(questions: pl.DataFrame) -> int:
    """How many questions have no gold answer that can decide anything."""
    return len(questions) - len(questions.filter(has_gold()))


def unreadable_gold(questions: pl.DataFrame, spec: Verification) -> list[str]:
    """Usable gold answers, of the first 200, that the verifiers numeric and math cannot read; none for the others.

    Only an answer in the very same words is correct where such a gold answer stands.
    """
    if spec.name not in ("numeric", "math"):
        return []
    golds = questions.filter(has_gold())["gold_answer"].head(_GOLDS_TRIED).to_list()
    found = judge(spec, [Case(_OTHER, gold) for gold in golds])
    return [gold for gold, verdict in zip(golds, found, strict=True) if verdict.reason == NO_GOLD.reason]


@contextmanager
def _bar(spec: Verification, count: int) -> Iterator[progress.Bar]:
    """Drawn only for verifiers that take their time."""
    if spec.takes_time:
        with progress.bar("verdicts", count, "answers") as bar:
            yield bar
    else:
        yield progress.Bar("verdicts", count, "answers")


def _judged(rows: pl.DataFrame, spec: Verification, bar: progress.Bar, paid_by: str) -> pl.DataFrame:
    found = judge(spec, list(_cases(rows)), bar.advance, paid_by)
    return rows.select(
        "sample_id",
        "gold",
        "gold_from",
        pl.Series("verdict", [v.label for v in found], dtype=pl.String),
        pl.Series("reason", [v.reason for v in found], dtype=pl.String),
    )


def _cases(rows: pl.DataFrame) -> Iterator[Case]:
    meta = pl.col("question_meta") if "question_meta" in rows.columns else pl.lit(None, dtype=pl.String)
    document = meta.str.json_path_match("$.document").alias("document")
    for row in rows.select("answer", "gold", "truncated", "question", "response", document).iter_rows():
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
