"""Two sets of triples side by side - usually the same questions asked of two teachers - and whether B may replace A.

Pass rate: correct of the decided samples. Correct share: correct of all samples, so that answers which a time-out or
the token limit left undecided count against it. Differences are paired by question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from cohobate.core.answer_text import normalise
from cohobate.core.errors import VerifierError
from cohobate.core.frequencies import counts
from cohobate.core.statistics import paired, wilson
from cohobate.evaluation.verifiers.labels import aggregate, reasons
from cohobate.store.artifacts import LABELS, Artifact, Store

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
    """Triples with their verdicts: a row a sample, and a row a question."""

    name: str
    samples: pl.DataFrame
    questions: pl.DataFrame

    @property
    def verifier(self) -> str | None:
        found = self.samples["verifier"].unique().sort().to_list()
        return ", ".join(found) or None


def read(artifact: Artifact) -> Dataset:
    """A triples artifact with its own verdicts, or a labels artifact with the triples that it labels.

    Raises VerifierError for another kind of artifact, StoreError when the labelled triples are gone.
    """
    if artifact.stage not in ("triples", LABELS):
        raise VerifierError(f"{artifact.id} holds no triples; `cohobate ls` lists those that begin with triples/")
    triples = artifact
    if artifact.stage == LABELS:
        triples = Store().find(artifact.manifest.parents[0].fingerprint)
    samples = pl.read_parquet(triples.path / "triples.parquet", columns=_COLUMNS)
    verdicts = pl.read_parquet(artifact.path / "verdicts.parquet")
    return join(artifact.id, samples, verdicts)


def join(name: str, samples: pl.DataFrame, verdicts: pl.DataFrame) -> Dataset:
    """Samples (columns of schema.TRIPLES) with their verdicts (schema.VERDICTS)."""
    joined = samples.join(verdicts, on="sample_id", maintain_order="left")
    return Dataset(name, joined, _by_question(samples, verdicts))


def compare(a: Dataset, b: Dataset) -> dict[str, Any]:
    """{a, b, shared, questions}: both in total, what they share, and a row a question of either.

    agreement of a question: the share of the pairs of an answer of A and one of B that are the same.
    """
    rows = _side_by_side(a, b).join(_agreement(a, b), on="question_id", how="left", maintain_order="left")
    return {"a": total(a), "b": total(b), "shared": _shared(rows), "questions": rows.to_dicts()}


def gate(found: dict[str, Any], allowed: float = 0.0) -> dict[str, Any]:
    """{passed, allowed, reasons}: B fails where the interval of its difference to A lies wholly below -`allowed`.

    found: what `compare` gives. It also fails where no shared question was decided in both. Raises VerifierError when
    A and B were judged by different verifiers.
    """
    first, second = found["a"]["verifier"], found["b"]["verifier"]
    if first != second:
        raise VerifierError(
            f"{found['a']['id']} was judged by {first} and {found['b']['id']} by {second}, so their pass rates do not "
            "compare; judge one of them again with `cohobate verify ID --verifier NAME` and compare the labels"
        )
    shared = found["shared"]
    reasons = [
        f"the {name.replace('_', ' ')} is lower by {-shared[name]['difference']:.1%} "
        f"(95% interval {-shared[name]['high']:.1%} to {-shared[name]['low']:.1%}, allowed {allowed:.1%})"
        for name in ("pass_rate", "correct_share")
        if shared[name]["high"] < -allowed
    ]
    if not shared["pass_rate"]["questions"]:
        reasons.append("no question was decided in both")
    return {"passed": not reasons, "allowed": allowed, "reasons": reasons}


def total(dataset: Dataset) -> dict[str, Any]:
    """One data set in numbers. low and high: 95% Wilson over samples; cost_usd None where no sample has one."""
    rows = dataset.samples
    labels = {name: int((rows["verdict"] == name).sum()) for name in ("correct", "incorrect", "undecided")}
    decided = labels["correct"] + labels["incorrect"]
    tokens = rows["completion_tokens"]
    cost = None if rows["cost_usd"].is_null().all() else rows["cost_usd"].sum()
    return {
        "id": dataset.name,
        "teacher": ", ".join(rows["teacher_name"].unique().sort()),
        "verifier": dataset.verifier,
        "questions": rows["question_id"].n_unique(),
        "samples": len(rows),
        **labels,
        **wilson(labels["correct"], decided).as_row("pass_rate"),
        "correct_share": labels["correct"] / len(rows) if len(rows) else None,
        "reasons": reasons(rows),
        "finish_reasons": counts(rows["finish_reason"]),
        "truncated": rows["truncated"].mean(),
        "mean_completion_tokens": tokens.mean(),
        "median_completion_tokens": tokens.median(),
        "p90_completion_tokens": tokens.quantile(0.9, "nearest"),
        "mean_rationale_characters": rows["rationale"].str.len_chars().mean(),
        "mean_answer_characters": rows["answer"].str.len_chars().mean(),
        "prompt_tokens": int(rows["prompt_tokens"].sum()),
        "completion_tokens": int(tokens.sum()),
        "cost_usd": cost,
        "cost_of_a_correct_usd": cost / labels["correct"] if cost is not None and labels["correct"] else None,
        "mean_latency_ms": rows["latency_ms"].mean(),
    }


def _by_question(samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """question_id, question, gold, n, correct, decided, pass_rate, low, high, majority, and of its samples the mean
    tokens and characters of rationale and answer, and the cost_usd together (null where none is known).
    """
    joined = samples.join(verdicts, on="sample_id", maintain_order="left")
    cost = pl.col("cost_usd")
    rows = joined.group_by("question_id", maintain_order=True).agg(
        question=pl.col("question").first(),
        gold=pl.col("gold").first(),
        n=pl.len(),
        correct=(pl.col("verdict") == "correct").sum(),
        decided=(pl.col("verdict") != "undecided").sum(),
        tokens=pl.col("completion_tokens").mean(),
        rationale_characters=pl.col("rationale").str.len_chars().mean(),
        answer_characters=pl.col("answer").str.len_chars().mean(),
        cost_usd=pl.when(cost.count() > 0).then(cost.sum()),
    )
    intervals = [wilson(correct, decided) for correct, decided in rows.select("correct", "decided").iter_rows()]
    kept = aggregate(samples, verdicts).select("question_id", "pass_rate", "majority")
    return rows.with_columns(
        low=pl.Series([interval.low for interval in intervals], dtype=pl.Float64),
        high=pl.Series([interval.high for interval in intervals], dtype=pl.Float64),
    ).join(kept, on="question_id", how="left", maintain_order="left")


def _side_by_side(a: Dataset, b: Dataset) -> pl.DataFrame:
    """The questions of either, A's first: the columns of `_by_question` with _a and _b, and their differences."""
    own = [name for name in a.questions.columns if name not in ("question_id", "question", "gold")]
    first, second = (d.questions.rename({name: f"{name}_{side}" for name in own}) for d, side in ((a, "a"), (b, "b")))
    rows = first.join(second, on="question_id", how="full", coalesce=True, maintain_order="left_right")
    differ = pl.col("majority_a") != pl.col("majority_b")
    return rows.select(
        "question_id",
        pl.coalesce("question", "question_right").alias("question"),
        pl.coalesce("gold", "gold_right").alias("gold"),
        *[f"{name}_{side}" for side in ("a", "b") for name in own],
        (pl.col("pass_rate_b") - pl.col("pass_rate_a")).alias("difference"),
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
    """question_id, vote, votes: how many samples give each answer, those without one left out."""
    vote = pl.col("answer").map_elements(normalise, return_dtype=pl.String)
    given = samples.select("question_id", vote=vote).filter(pl.col("vote") != "")
    return given.group_by("question_id", "vote").agg(votes=pl.len().cast(pl.Int64))


def _shared(rows: pl.DataFrame) -> dict[str, Any]:
    """What the questions of both say; intervals are 95%, paired by question."""
    in_a, in_b = pl.col("n_a").is_not_null(), pl.col("n_b").is_not_null()
    both = rows.filter(in_a & in_b)
    rated = both.drop_nulls("difference")
    judged = both.filter((pl.col("decided_a") > 0) | (pl.col("decided_b") > 0))
    answered = both.drop_nulls("answer_changed")
    agree = int((~answered["answer_changed"]).sum())
    return {
        "questions": len(both),
        "only_in_a": len(rows.filter(in_a & ~in_b)),
        "only_in_b": len(rows.filter(in_b & ~in_a)),
        "pass_rate": _difference(rated["pass_rate_a"], rated["pass_rate_b"]),
        "correct_share": _difference(judged["correct_a"] / judged["n_a"], judged["correct_b"] / judged["n_b"]),
        "improved": int((rated["difference"] > 0).sum()),
        "worsened": int((rated["difference"] < 0).sum()),
        "agreement": {
            "questions": len(answered),
            "agree": agree,
            "changed": len(answered) - agree,
            **wilson(agree, len(answered)).as_row("share"),
            "of_samples": both["agreement"].mean(),
        },
        "mean_completion_tokens": _means(both, "tokens"),
        "mean_rationale_characters": _means(both, "rationale_characters"),
        "cost_usd": {side: _sum(both[f"cost_usd_{side}"]) for side in ("a", "b")},
    }


def _means(rows: pl.DataFrame, name: str) -> dict[str, Any]:
    return {side: rows[f"{name}_{side}"].mean() for side in ("a", "b")}


def _sum(values: pl.Series) -> Any:
    """None where nothing is known."""
    return values.sum() if values.count() else None


def _difference(a: pl.Series, b: pl.Series) -> dict[str, Any]:
    """Means over questions, and the interval of the mean difference B - A."""
    return {"questions": len(a), "a": a.mean(), "b": b.mean(), **paired((b - a).to_list()).as_row("difference")}
