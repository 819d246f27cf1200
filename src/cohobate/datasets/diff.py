"""Two sets of triples side by side - usually the same questions asked of two teachers.

Pass rate: correct of the decided samples. Correct share: correct of all samples, so that answers which a time-out or
the token limit left undecided count against it. Differences are paired by question; whether a question became better or
worse goes by its correct share, so that an answer which was correct and is undecided counts as worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.core.answer_text import normalise
from cohobate.core.errors import StoreError, VerifierError
from cohobate.core.frequencies import counts
from cohobate.core.statistics import Interval, as_json, paired, wilson
from cohobate.datasets.teacher_names import teacher_label
from cohobate.evaluation.verifiers.labels import aggregate, reasons
from cohobate.store.artifacts import LABELS, Artifact, verify
from cohobate.store.origins import origin

_COLUMNS = [
    "sample_id",
    "question_id",
    "sample_index",
    "question",
    "gold_answer",
    "rationale",
    "answer",
    "teacher_name",
    "finish_reason",
    "truncated",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_ms",
]


@dataclass(frozen=True)
class Dataset:
    """Triples with their verdicts: one row per sample, and one row per question. failed: the question's id of each
    request that failed.
    """

    name: str
    samples: pl.DataFrame
    questions: pl.DataFrame
    failed: tuple[str, ...] = ()

    @property
    def verifier(self) -> str | None:
        """The names of the verifiers; None without samples."""
        return ", ".join(self.samples["verifier"].unique().sort()) or None


@dataclass(frozen=True)
class Totals:
    """One data set in numbers. pass_rate: interval over samples. cost_usd: None where no sample has a cost."""

    id: str
    teacher: str
    verifier: str | None
    questions: int
    samples: int
    correct: int
    incorrect: int
    undecided: int
    failures: int
    pass_rate: Interval
    correct_share: float | None
    reasons: dict[str, int]
    finish_reasons: dict[str, int]
    truncated: float | None
    mean_completion_tokens: float | None
    median_completion_tokens: float | None
    p90_completion_tokens: float | None
    mean_rationale_characters: float | None
    mean_answer_characters: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    cost_of_a_correct_usd: float | None
    mean_latency_ms: float | None


@dataclass(frozen=True)
class Difference:
    """Means of A and B over so many questions, and the mean difference B - A, paired by question."""

    questions: int
    a: float | None
    b: float | None
    difference: Interval


@dataclass(frozen=True)
class Agreement:
    """Questions whose majority answers agree. of_samples: mean share of equal pairs of an answer of A and one of B."""

    questions: int
    agree: int
    changed: int
    share: Interval
    of_samples: float | None


@dataclass(frozen=True)
class Amounts:
    """One measurement of both sides; None where it is not known."""

    a: float | None
    b: float | None


@dataclass(frozen=True)
class Shared:
    """The questions of both data sets. improved, worsened: questions whose correct share is higher or lower in B."""

    questions: int
    only_in_a: int
    only_in_b: int
    pass_rate: Difference
    correct_share: Difference
    improved: int
    worsened: int
    agreement: Agreement
    mean_completion_tokens: Amounts
    mean_rationale_characters: Amounts
    cost_usd: Amounts


@dataclass(frozen=True)
class DatasetDiff:
    """Both data sets in total, the questions that they share, and one row per question of either.

    questions: question_id, question, gold; with _a and _b: n, correct, decided, undecided, unanswered, truncated,
    pass_rate, low, high, majority, tokens, rationale_characters, answer_characters, cost_usd; difference: of the
    correct shares, null where neither side decided an answer; answer_changed, and agreement: the share of equal pairs
    of an answer of A and one of B. new_failures: failed requests of B about questions that A does not answer.
    """

    a: Totals
    b: Totals
    shared: Shared
    questions: pl.DataFrame
    new_failures: int = 0

    def as_json(self) -> dict[str, Any]:
        """{a, b, shared, questions}."""
        parts = {"a": as_json(self.a), "b": as_json(self.b), "shared": as_json(self.shared)}
        return {**parts, "questions": self.questions.to_dicts()}


def read(artifact: Artifact) -> Dataset:
    """A triples artifact with its own verdicts, or a labels artifact with the triples that it labels.

    Raises VerifierError for another kind of artifact, StoreError when the labelled triples are gone, DamagedFileError
    for files that were altered.
    """
    if artifact.stage not in ("triples", LABELS):
        raise VerifierError(f"{artifact.id} holds no triples; `cohobate ls` lists those that begin with triples/")
    triples = artifact
    if artifact.stage == LABELS:
        labelled_triples = origin(artifact, "triples")
        if labelled_triples is None:
            raise StoreError(f"the triples that {artifact.id} labels are not stored any more")
        triples = labelled_triples
    verify(artifact)
    columns = [*_COLUMNS, "teacher_revision", "provider"]
    samples = pl.read_parquet(triples.path / "triples.parquet", columns=columns)
    samples = samples.with_columns(teacher_name=teacher_label()).select(_COLUMNS)
    verdicts = pl.read_parquet(artifact.path / "verdicts.parquet")
    failures = triples.path / "failures.parquet"  # curated triples have none
    failed = pl.read_parquet(failures, columns=["question_id"])["question_id"].to_list() if failures.is_file() else []
    return labelled(artifact.id, samples, verdicts, failed)


def labelled(name: str, samples: pl.DataFrame, verdicts: pl.DataFrame, failed: Sequence[str] = ()) -> Dataset:
    """Samples (columns of schema.TRIPLES) with their verdicts (schema.VERDICTS); failed: as in Dataset."""
    joined = samples.join(verdicts, on="sample_id", maintain_order="left")
    return Dataset(name, joined, _by_question(samples, verdicts), tuple(failed))


def diff(a: Dataset, b: Dataset) -> DatasetDiff:
    """How the data set B differs from A."""
    rows = _side_by_side(a, b).join(_agreement(a, b), on="question_id", how="left", maintain_order="left")
    answered = set(a.questions["question_id"].to_list())
    return DatasetDiff(totals(a), totals(b), _shared(rows), rows, sum(each not in answered for each in b.failed))


def totals(dataset: Dataset) -> Totals:
    """One data set in numbers."""
    rows = dataset.samples
    labels = {name: int((rows["verdict"] == name).sum()) for name in ("correct", "incorrect", "undecided")}
    tokens = rows["completion_tokens"]
    cost = _sum(rows["cost_usd"])
    return Totals(
        id=dataset.name,
        teacher=", ".join(rows["teacher_name"].unique().sort()),
        verifier=dataset.verifier,
        questions=rows["question_id"].n_unique(),
        samples=len(rows),
        correct=labels["correct"],
        incorrect=labels["incorrect"],
        undecided=labels["undecided"],
        failures=len(dataset.failed),
        pass_rate=wilson(labels["correct"], labels["correct"] + labels["incorrect"]),
        correct_share=labels["correct"] / len(rows) if len(rows) else None,
        reasons=reasons(rows),
        finish_reasons=counts(rows["finish_reason"]),
        truncated=_mean(rows["truncated"]),
        mean_completion_tokens=_mean(tokens),
        median_completion_tokens=tokens.median(),  # type: ignore[arg-type]
        p90_completion_tokens=tokens.quantile(0.9, "nearest"),
        mean_rationale_characters=_mean(rows["rationale"].str.len_chars()),
        mean_answer_characters=_mean(rows["answer"].str.len_chars()),
        prompt_tokens=int(rows["prompt_tokens"].sum()),
        completion_tokens=int(tokens.sum()),
        cost_usd=cost,
        cost_of_a_correct_usd=cost / labels["correct"] if cost is not None and labels["correct"] else None,
        mean_latency_ms=_mean(rows["latency_ms"]),
    )


def _by_question(samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """question_id, question, gold, counts of its samples (n, correct, decided, undecided, unanswered, truncated),
    pass_rate, low, high, majority, and of its samples the mean tokens and characters of rationale and answer, and the
    cost_usd together (null where none is known).
    """
    joined = samples.join(verdicts, on="sample_id", maintain_order="left")
    cost = pl.col("cost_usd")
    rows = joined.group_by("question_id", maintain_order=True).agg(
        question=pl.col("question").first(),
        gold=pl.col("gold").first(),
        n=pl.len(),
        correct=(pl.col("verdict") == "correct").sum(),
        decided=(pl.col("verdict") != "undecided").sum(),
        undecided=(pl.col("verdict") == "undecided").sum(),
        unanswered=(pl.col("answer").fill_null("").str.strip_chars() == "").sum(),
        truncated=pl.col("truncated").sum(),
        tokens=pl.col("completion_tokens").mean(),
        rationale_characters=pl.col("rationale").str.len_chars().mean(),
        answer_characters=pl.col("answer").str.len_chars().mean(),
        cost_usd=pl.when(cost.count() > 0).then(cost.sum()),
    )
    intervals = [wilson(correct, decided) for correct, decided in rows.select("correct", "decided").iter_rows()]
    rates = aggregate(samples, verdicts).select("question_id", "pass_rate", "majority")
    return rows.with_columns(
        low=pl.Series([interval.low for interval in intervals], dtype=pl.Float64),
        high=pl.Series([interval.high for interval in intervals], dtype=pl.Float64),
    ).join(rates, on="question_id", how="left", maintain_order="left")


def _side_by_side(a: Dataset, b: Dataset) -> pl.DataFrame:
    """The questions of either, A's first: the columns of `_by_question` with _a and _b, and their differences."""
    own = [name for name in a.questions.columns if name not in ("question_id", "question", "gold")]
    first, second = (d.questions.rename({name: f"{name}_{side}" for name in own}) for d, side in ((a, "a"), (b, "b")))
    rows = first.join(second, on="question_id", how="full", coalesce=True, maintain_order="left_right")
    differ = pl.col("majority_a") != pl.col("majority_b")
    decided = (pl.col("decided_a") > 0) | (pl.col("decided_b") > 0)
    share_a, share_b = pl.col("correct_a") / pl.col("n_a"), pl.col("correct_b") / pl.col("n_b")
    return rows.select(
        "question_id",
        pl.coalesce("question", "question_right").alias("question"),
        pl.coalesce("gold", "gold_right").alias("gold"),
        *[f"{name}_{side}" for side in ("a", "b") for name in own],
        pl.when(decided).then(share_b - share_a).alias("difference"),
        differ.alias("answer_changed"),
    )


def _agreement(a: Dataset, b: Dataset) -> pl.DataFrame:
    """question_id, agreement: of the questions that both answer."""
    first, second = (_votes(each.samples) for each in (a, b))
    pairs = first.group_by("question_id").agg(pl.col("votes").sum())
    pairs = pairs.join(second.group_by("question_id").agg(pl.col("votes").sum()), on="question_id", suffix="_b")
    same = first.join(second, on=["question_id", "vote"], suffix="_b")
    agreeing = same.group_by("question_id").agg(same=(pl.col("votes") * pl.col("votes_b")).sum())
    return pairs.join(agreeing, on="question_id", how="left").select(
        "question_id",
        (pl.col("same").fill_null(0) / (pl.col("votes") * pl.col("votes_b"))).alias("agreement"),
    )


def _votes(samples: pl.DataFrame) -> pl.DataFrame:
    """question_id, vote, votes: how many samples give each answer; samples without an answer are left out."""
    vote = pl.col("answer").map_elements(normalise, return_dtype=pl.String)
    answers = samples.select("question_id", vote=vote).filter(pl.col("vote") != "")
    return answers.group_by("question_id", "vote").agg(votes=pl.len().cast(pl.Int64))


def _shared(rows: pl.DataFrame) -> Shared:
    """The questions of both sides; intervals are 95%, paired by question."""
    in_a, in_b = pl.col("n_a").is_not_null(), pl.col("n_b").is_not_null()
    both = rows.filter(in_a & in_b)
    rated = both.drop_nulls(["pass_rate_a", "pass_rate_b"])
    decided = both.drop_nulls("difference")
    answered = both.drop_nulls("answer_changed")
    agree = int((~answered["answer_changed"]).sum())
    return Shared(
        questions=len(both),
        only_in_a=len(rows.filter(in_a & ~in_b)),
        only_in_b=len(rows.filter(in_b & ~in_a)),
        pass_rate=_difference(rated["pass_rate_a"], rated["pass_rate_b"]),
        correct_share=_difference(decided["correct_a"] / decided["n_a"], decided["correct_b"] / decided["n_b"]),
        improved=int((decided["difference"] > 0).sum()),
        worsened=int((decided["difference"] < 0).sum()),
        agreement=Agreement(
            questions=len(answered),
            agree=agree,
            changed=len(answered) - agree,
            share=wilson(agree, len(answered)),
            of_samples=_mean(both["agreement"]),
        ),
        mean_completion_tokens=Amounts(_mean(both["tokens_a"]), _mean(both["tokens_b"])),
        mean_rationale_characters=Amounts(_mean(both["rationale_characters_a"]), _mean(both["rationale_characters_b"])),
        cost_usd=Amounts(_sum(both["cost_usd_a"]), _sum(both["cost_usd_b"])),
    )


def _mean(values: pl.Series) -> float | None:
    """None where nothing is known."""
    mean: float | None = values.mean()  # type: ignore[assignment]
    return mean


def _sum(values: pl.Series) -> float | None:
    """None where nothing is known."""
    total: Any = values.sum()
    return total if values.count() else None


def _difference(a: pl.Series, b: pl.Series) -> Difference:
    return Difference(len(a), _mean(a), _mean(b), paired((b - a).to_list()))
