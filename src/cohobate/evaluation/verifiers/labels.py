"""Verification labels: verdicts.parquet (one row per sample) and aggregates.parquet (one row per question)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cohobate.config import Verification
from cohobate.core import frequencies, progress, schema
from cohobate.core.answer_text import GOLD_SENTINELS, normalise
from cohobate.core.fingerprint import hash_value
from cohobate.core.sealed_files import is_whole, write_parquet_sealed
from cohobate.core.statistics import Interval, as_json, wilson
from cohobate.evaluation.verifiers.kinds import verifier
from cohobate.evaluation.verifiers.verdict import JUDGE_PREFIX, NO_FINAL_ANSWER, NO_GOLD, Case
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.store.compute_ledger import LedgerEntry

# Rows judged at a time: what a kill can lose.
CHUNK_ROWS = 20_000
_GOLDS_TRIED = 200
# Fewer responses without an answer are not worth a sentence.
_FEW_MISSING = 0.1
_ANY_NUMBER = "7919"

Labeller = Callable[[pl.DataFrame], pl.DataFrame]


def label(
    samples: pl.DataFrame, spec: Verification, scratch: Path | None = None, paid_by: str = "verdicts"
) -> pl.DataFrame:
    """The verdict of each sample, in order: columns of schema.VERDICTS.

    samples: columns sample_id, question_id, question, response, answer, gold_answer, truncated, and question_meta if a
    judge shall see documents. Chunks that a killed call has finished stay in `scratch` and are not judged again.
    Raises VerifierError for a broken function, EndpointError and TeacherError of a judge.
    """
    with labeller(spec, len(samples), scratch, paid_by) as verdicts:
        return verdicts(samples)


@contextmanager
def labeller(
    spec: Verification, total: int, scratch: Path | None = None, paid_by: str = "verdicts"
) -> Iterator[Labeller]:
    """A `label` for samples that come in pieces, `total` rows in all.

    A piece contains all samples of its questions, since the majority answer is taken over them.
    """
    chosen = verifier(spec)
    named = {"verifier": pl.lit(chosen.name), "verifier_version": pl.lit(chosen.version, dtype=pl.Int32)}
    columns = schema.VERDICTS.names
    with _bar(spec, total) as bar:

        def verdicts(samples: pl.DataFrame) -> pl.DataFrame:
            frame = with_gold(samples, majority=spec.majority)
            chunks = frame.iter_slices(CHUNK_ROWS)
            tables = [_empty(), *(_resumed(rows, spec, bar, scratch, paid_by) for rows in chunks)]
            return pl.concat(tables).with_columns(**named).select(columns)

        yield verdicts


def _resumed(
    rows: pl.DataFrame, spec: Verification, bar: progress.Bar, scratch: Path | None, paid_by: str
) -> pl.DataFrame:
    """The verdicts of a killed call, or new ones."""
    if not scratch or not spec.takes_time:  # the others are quicker than reading the disk
        return _verdicts(rows, spec, bar, paid_by)
    path = scratch / f"verdicts-{_hash(rows)}.parquet"
    if is_whole(path):
        verdicts = pl.read_parquet(path)
        bar.advance(len(verdicts))
        return verdicts
    verdicts = _verdicts(rows, spec, bar, paid_by)
    write_parquet_sealed(verdicts.to_arrow(), path)
    return verdicts


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


def summary(verdicts: pl.DataFrame) -> dict[str, Any]:
    """{verifier, verdicts by label, reasons by text, pass_rate}: metrics of an artifact with labels.

    pass_rate: correct of the decided; None where nothing is decided. verdicts: columns of schema.VERDICTS.
    """
    labels = frequencies.counts(verdicts["verdict"])
    decided = labels.get("correct", 0) + labels.get("incorrect", 0)
    return {
        "verifier": verdicts["verifier"][0] if len(verdicts) else None,
        "verdicts": labels,
        "reasons": reasons(verdicts),
        "pass_rate": labels.get("correct", 0) / decided if decided else None,
    }


def missing_answers(verdicts: pl.DataFrame) -> str | None:
    """A sentence where more than a tenth of the responses have no final answer; None where fewer have none.

    verdicts: column reason.
    """
    count = int((verdicts["reason"] == NO_FINAL_ANSWER.reason).sum())
    if count <= _FEW_MISSING * len(verdicts):
        return None
    return (
        f"{count} of {len(verdicts)} responses have no final answer in a form that is read, and stay undecided: ask "
        "for one in teacher.prompt, add their form with teacher.answer, or judge sentences by the verifier phrase"
    )


def reasons(verdicts: pl.DataFrame) -> dict[str, int]:
    """How often each reason occurs, the most frequent first; a judge's reasons are counted by kind.

    verdicts: columns verifier, verdict, reason.
    """
    by_judge = pl.col("verifier").str.starts_with(JUDGE_PREFIX)
    reasons, judged = verdicts.filter(~by_judge)["reason"], verdicts.filter(by_judge)
    if len(judged):
        from cohobate.evaluation.verifiers.judge import kind_of_reason

        kinds = [kind_of_reason(label, reason) for label, reason in judged.select("verdict", "reason").iter_rows()]
        reasons = pl.concat([pl.Series("reason", kinds, dtype=pl.String), reasons])
    return frequencies.counts(reasons)


@dataclass(frozen=True)
class Agreement:
    """How often a judge agrees with the exact verifier, on samples whose question has its own gold answer.

    n: decided by both; share is of them. only_judge, only_exact: correct for that one alone. undecided: decided by the
    exact verifier only.
    """

    n: int
    agree: int
    share: Interval
    only_judge: int
    only_exact: int
    undecided: int


def agreement(samples: pl.DataFrame, verdicts: pl.DataFrame) -> Agreement | None:
    """The agreement of `verdicts` with the exact verifier; None where no sample has a gold answer.

    samples: columns sample_id, answer, truncated.
    """
    from cohobate.evaluation.verifiers.exact import EXACT

    with_own_gold = verdicts.filter(pl.col("gold_from") == "question").select("sample_id", "verdict", "gold")
    rows = with_own_gold.join(samples.select("sample_id", "answer", "truncated"), on="sample_id")
    exact = [EXACT.verdict(Case(*row)).label for row in rows.select("answer", "gold", "truncated").iter_rows()]
    pairs = Counter(pair for pair in zip(rows["verdict"], exact, strict=True) if pair[1] != "undecided")
    if not pairs:
        return None
    agree = pairs["correct", "correct"] + pairs["incorrect", "incorrect"]
    only_judge, only_exact = pairs["correct", "incorrect"], pairs["incorrect", "correct"]
    undecided = sum(count for (verdict, _), count in pairs.items() if verdict == "undecided")
    n = agree + only_judge + only_exact
    return Agreement(n, agree, wilson(agree, n), only_judge, only_exact, undecided)


def judge_usage(
    samples: pl.DataFrame, verdicts: pl.DataFrame, spec: Verification, stage: str, payer: str
) -> tuple[list[LedgerEntry], dict[str, Any]]:
    """Ledger entries of the judge in `stage`, and the metrics {judge: usage and agreement}; none without a judge."""
    if spec.judge is None or spec.name != "judge":
        return [], {}
    from cohobate.evaluation.verifiers import judge

    cases = list(_cases(with_gold(samples, majority=spec.majority)))
    entries, usage = judge.usage(spec.judge, cases, stage, payer)
    agreeing = agreement(samples, verdicts)
    return entries, {"judge": {**as_json(usage), "agreement": agreeing and as_json(agreeing)}}


@dataclass(frozen=True)
class Movement:
    """How many samples went from one label to another."""

    before: str
    after: str
    samples: int


def movements(before: pl.DataFrame, after: pl.DataFrame) -> list[Movement]:
    """How many samples have each pair of labels in two tables of verdicts, unchanged ones included."""
    old = before.select("sample_id", before="verdict")
    pairs = old.join(after.select("sample_id", after="verdict"), on="sample_id")
    counted = pairs.group_by("before", "after").agg(samples=pl.len())
    return [Movement(*row) for row in counted.sort("before", "after").iter_rows()]


def has_gold() -> pl.Expr:
    """Whether the column gold_answer can decide anything: it is there, and is no sentinel such as `proof`."""
    return ~pl.col("gold_answer").fill_null("").str.strip_chars().str.to_lowercase().is_in(list(GOLD_SENTINELS))


def without_gold(questions: pl.DataFrame) -> int:
    """The number of questions without a gold answer that can decide anything."""
    return len(questions) - len(questions.filter(has_gold()))


def unreadable_gold(questions: pl.DataFrame, spec: Verification) -> list[str]:
    """Usable gold answers, of the first 200, that the verifiers numeric and math cannot read; none for the others.

    Only an answer in the same words is correct for such a gold answer.
    """
    if spec.name not in ("numeric", "math"):
        return []
    golds = questions.filter(has_gold())["gold_answer"].head(_GOLDS_TRIED).to_list()
    verdicts = verdicts_of(spec, [Case(_ANY_NUMBER, gold) for gold in golds])
    return [gold for gold, verdict in zip(golds, verdicts, strict=True) if verdict.reason == NO_GOLD.reason]


@contextmanager
def _bar(spec: Verification, count: int) -> Iterator[progress.Bar]:
    """A bar that is drawn only for verifiers that take time."""
    if spec.takes_time:
        with progress.bar("verdicts", count, "answers") as bar:
            yield bar
    else:
        yield progress.Bar("verdicts", count, "answers")


def _verdicts(rows: pl.DataFrame, spec: Verification, bar: progress.Bar, paid_by: str) -> pl.DataFrame:
    verdicts = verdicts_of(spec, list(_cases(rows)), bar.advance, paid_by)
    return rows.select(
        "sample_id",
        "gold",
        "gold_from",
        pl.Series("verdict", [verdict.label for verdict in verdicts], dtype=pl.String),
        pl.Series("reason", [verdict.reason for verdict in verdicts], dtype=pl.String),
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


def _hash(rows: pl.DataFrame) -> str:
    return hash_value(rows.select("sample_id", "answer", "gold", "truncated").rows())[:16]
