"""The samples of an artifact in one shape, one row per sample, for `cohobate show` and the dataset page.

Triples, labels and curated triples (with the rejected samples), the rollouts of on-policy distillation, the answers of
an evaluation, and questions. All is lazy: a few rows of a million are read without the other texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cohobate.core.answer_parsing import parse
from cohobate.core.errors import SelectionError, StoreError
from cohobate.core.parquet import scan_table
from cohobate.core.sample_id import answer_id, rollout_id
from cohobate.core.schema import ROLLOUTS
from cohobate.datasets.teacher_names import teacher_label
from cohobate.store.artifacts import LABELS, Artifact
from cohobate.store.origins import origin

# Every column of a row; null where the kind of artifact has no such value.
COLUMNS: dict[str, type[pl.DataType]] = {
    "sample_id": pl.String,
    "question_id": pl.String,
    "sample_index": pl.Int32,
    "question": pl.String,
    "rationale": pl.String,
    "answer": pl.String,
    "response": pl.String,
    "gold": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "rejected": pl.String,
    "reject_detail": pl.String,
    "finish_reason": pl.String,
    "split": pl.String,
    "source": pl.String,
    "teacher": pl.String,
    "model": pl.String,
    "decoding": pl.String,
    "pass_rate": pl.Float64,
    "prompt_tokens": pl.Int32,
    "completion_tokens": pl.Int32,
    "cost_usd": pl.Float64,
    "latency_ms": pl.Float64,
    "step": pl.Int32,
    "gap": pl.Float64,
}
STAGES = ("questions", "triples", LABELS, "opd", "evaluation")
_SEARCHED = ("question", "response", "answer", "gold")
_PARSED = pl.Struct({"rationale": pl.String, "answer": pl.String})


@dataclass(frozen=True)
class RowFilter:
    """Rows by verdict, by the beginning of a question's or sample's id, and by a text that occurs in any case."""

    verdict: str | None = None
    question: str | None = None
    text: str | None = None

    def matches(self) -> pl.Expr:
        """True for the rows that fit."""
        fits = pl.lit(True)
        if self.verdict is not None:
            fits &= pl.col("verdict") == self.verdict
        if self.question is not None:
            ids = (pl.col(name).str.starts_with(self.question) for name in ("question_id", "sample_id"))
            fits &= pl.any_horizontal(*ids)
        if self.text is not None:
            fits &= pl.any_horizontal(*(_contains(name, self.text) for name in _SEARCHED))
        return fits.fill_null(False)


def _contains(column: str, text: str) -> pl.Expr:
    """Whether a text column contains `text`, in any case."""
    return pl.col(column).str.to_lowercase().str.contains(text.lower(), literal=True)


def sample_rows(artifact: Artifact) -> pl.LazyFrame:
    """The rows of `artifact`, with COLUMNS, in its order; rejected ones last.

    gap: mean log-prob of the student's tokens minus the teacher's, in nats. Raises SelectionError for an artifact that
    holds no samples.
    """
    readers = {"triples": _triples, LABELS: _labels, "opd": _rollouts, "evaluation": _answers, "questions": _questions}
    if artifact.stage not in readers:
        raise SelectionError(
            f"{artifact.id} holds no samples; those of {', '.join(STAGES[:-1])} and {STAGES[-1]} do (`cohobate ls`)"
        )
    rows = readers[artifact.stage](artifact)
    names = rows.collect_schema().names()
    return rows.select(
        (pl.col(name) if name in names else pl.lit(None)).cast(kind).alias(name) for name, kind in COLUMNS.items()
    )


def failed_requests(artifact: Artifact, chosen: RowFilter | None = None) -> pl.DataFrame:
    """The failed requests of a triples artifact: of the filter's question, and with its text in their message.

    Raises SelectionError for another kind of artifact.
    """
    path = artifact.path / "failures.parquet"
    if not path.is_file():
        raise SelectionError(f"{artifact.id} has no table of failed requests; triples have")
    requests = pl.read_parquet(path)
    if chosen is not None and chosen.question is not None:
        requests = requests.filter(pl.col("question_id").str.starts_with(chosen.question))
    if chosen is not None and chosen.text is not None:
        requests = requests.filter(_contains("message", chosen.text))
    return requests


def _triples(artifact: Artifact) -> pl.LazyFrame:
    rows = _labelled(artifact.path, artifact.path)
    path = artifact.path / "rejects.parquet"
    if not path.is_file():
        return rows
    rejects = _own_columns(pl.scan_parquet(path), "verdict", "reject_detail", rejected="reject_reason")
    return pl.concat([rows, rejects], how="diagonal")


def _labels(artifact: Artifact) -> pl.LazyFrame:
    triples = origin(artifact, "triples")
    if triples is None:
        raise StoreError(f"the triples that {artifact.id} labels are not stored any more")
    return _labelled(triples.path, artifact.path)


def _labelled(triples: Path, labels: Path) -> pl.LazyFrame:
    """The triples of one folder with the verdicts and pass rates of another."""
    # One row per sample: of several verifiers and versions the last one counts.
    verdicts = (
        pl.scan_parquet(labels / "verdicts.parquet")
        .sort("verifier_version", maintain_order=True)
        .unique("sample_id", keep="last")
        .select("sample_id", "verdict", "reason", pl.col("gold").alias("label_gold"))
    )
    rates = pl.scan_parquet(labels / "aggregates.parquet").select("question_id", "pass_rate")
    return (
        _own_columns(pl.scan_parquet(triples / "triples.parquet"))
        .join(verdicts, on="sample_id", how="left", maintain_order="left")
        .join(rates, on="question_id", how="left", maintain_order="left")
        .with_columns(pl.coalesce("label_gold", "gold").alias("gold"))
    )


def _own_columns(triples: pl.LazyFrame, *more: str, **renamed: str) -> pl.LazyFrame:
    """The columns that a table of triples has without its verdicts."""
    names = {"gold": "gold_answer", "source": "source_name", **renamed}
    same = [name for name in COLUMNS if name in triples.collect_schema().names() and name not in ("verdict", "reason")]
    columns = dict.fromkeys([*same, *more])
    model = teacher_label().alias("model")
    return triples.select(*columns, *(pl.col(old).alias(new) for new, old in names.items()), model)


def _rollouts(artifact: Artifact) -> pl.LazyFrame:
    tokens = pl.col("response_ids").list.len()
    gap = pl.col("sampler_logprobs").list.mean() - pl.col("teacher_logprobs").list.mean()
    log = scan_table(artifact.path / "rollouts.parquet", ROLLOUTS).select(
        "step",
        "question_id",
        "sample_index",
        "finish_reason",
        "teacher",
        sample_id=rollout_id(),
        response="text",
        prompt_tokens=pl.col("prompt_ids").list.len(),
        completion_tokens=tokens,
        gap=gap,
    )
    return _parsed(_with_questions(artifact, log))


def _answers(artifact: Artifact) -> pl.LazyFrame:
    answers = pl.scan_parquet(artifact.path / "answers.parquet").select(
        pl.exclude("kind", "depth", "answer_extracted", "gold_answer", "student", "tokens"),
        sample_id=answer_id(),
        model="student",
        completion_tokens="tokens",
    )
    return _parsed(_with_questions(artifact, answers))


def _questions(artifact: Artifact) -> pl.LazyFrame:
    questions = pl.scan_parquet(artifact.path / "questions.parquet")
    return questions.select("question_id", "question", "split", gold="gold_answer", source="kind")


def _with_questions(artifact: Artifact, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with the texts and gold answers of their questions, where the questions are still stored."""
    questions = origin(artifact, "questions")
    if questions is None:
        return rows
    texts = _questions(questions).select("question_id", "question", "split", "gold")
    if "split" in rows.collect_schema().names():
        texts = texts.drop("split")
    return rows.join(texts, on="question_id", how="left", maintain_order="left")


def _parsed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with rationale and answer, parsed from the response."""

    def take_apart(text: str) -> dict[str, str | None]:
        parsed = parse(text)
        return {"rationale": parsed.rationale, "answer": parsed.answer}

    return rows.with_columns(pl.col("response").map_elements(take_apart, return_dtype=_PARSED).alias("parts")).unnest(
        "parts"
    )
