"""What an artifact holds in one shape for people, a row a sample: `cohobate show` and the dataset page read it.

Triples, labels and curated triples (with what curation took out), the rollouts of on-policy distillation, the answers
of an evaluation, and questions. All is lazy: a few rows of a million are found without reading the other texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cohobate.core.answer_parsing import parse
from cohobate.core.errors import SelectionError, StoreError
from cohobate.core.sample_id import answer_id, rollout_id
from cohobate.store.artifacts import LABELS, Artifact, Store

# Every column of a row; an artifact leaves null what it does not know.
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
class Wanted:
    """Which rows: by verdict, by the beginning of a question's or sample's id, by a text that occurs in any case."""

    verdict: str | None = None
    question: str | None = None
    text: str | None = None

    def filter(self) -> pl.Expr:
        """True for the wanted rows."""
        wanted = pl.lit(True)
        if self.verdict is not None:
            wanted &= pl.col("verdict") == self.verdict
        if self.question is not None:
            wanted &= pl.col("question_id").str.starts_with(self.question) | pl.col("sample_id").str.starts_with(
                self.question
            )
        if self.text is not None:
            found = (
                pl.col(name).str.to_lowercase().str.contains(self.text.lower(), literal=True) for name in _SEARCHED
            )
            wanted &= pl.any_horizontal(*found)
        return wanted.fill_null(False)


def holds(column: str, text: str) -> pl.Expr:
    """Whether a text column holds `text`, in any case."""
    return pl.col(column).str.to_lowercase().str.contains(text.lower(), literal=True)


def samples(artifact: Artifact) -> pl.LazyFrame:
    """The rows of `artifact`, with COLUMNS, in its order; rejected ones last. `gap`: mean log-probability of the
    student's tokens minus the teacher's, in nats. Raises SelectionError for an artifact that holds no samples.
    """
    readers = {"triples": _triples, LABELS: _labels, "opd": _rollouts, "evaluation": _answers, "questions": _questions}
    if artifact.stage not in readers:
        raise SelectionError(
            f"{artifact.id} holds no samples; those of {', '.join(STAGES[:-1])} and {STAGES[-1]} do (`cohobate ls`)"
        )
    found = readers[artifact.stage](artifact)
    known = found.collect_schema().names()
    return found.select(
        (pl.col(name) if name in known else pl.lit(None)).cast(kind).alias(name) for name, kind in COLUMNS.items()
    )


def failures(artifact: Artifact) -> pl.DataFrame:
    """The failed requests of a triples artifact. Raises SelectionError for another kind of artifact."""
    path = artifact.path / "failures.parquet"
    if not path.is_file():
        raise SelectionError(f"{artifact.id} has no table of failed requests; triples have")
    return pl.read_parquet(path)


def _triples(artifact: Artifact) -> pl.LazyFrame:
    found = _judged(artifact.path, artifact.path)
    rejects = artifact.path / "rejects.parquet"
    if not rejects.is_file():
        return found
    out = _own(pl.scan_parquet(rejects), "verdict", "reject_detail", rejected="reject_reason")
    return pl.concat([found, out], how="diagonal")


def _labels(artifact: Artifact) -> pl.LazyFrame:
    triples = Store(artifact.path.parents[1]).find(artifact.manifest.parents[0].fingerprint)
    return _judged(triples.path, artifact.path)


def _judged(triples: Path, labels: Path) -> pl.LazyFrame:
    """The triples of one folder with the verdicts and pass rates of another."""
    # Of several verifiers and versions the last one counts: a sample is one row.
    verdicts = (
        pl.scan_parquet(labels / "verdicts.parquet")
        .sort("verifier_version", maintain_order=True)
        .unique("sample_id", keep="last")
        .select("sample_id", "verdict", "reason", pl.col("gold").alias("held_against"))
    )
    rates = pl.scan_parquet(labels / "aggregates.parquet").select("question_id", "pass_rate")
    return (
        _own(pl.scan_parquet(triples / "triples.parquet"))
        .join(verdicts, on="sample_id", how="left", maintain_order="left")
        .join(rates, on="question_id", how="left", maintain_order="left")
        .with_columns(pl.coalesce("held_against", "gold").alias("gold"))
    )


def _own(triples: pl.LazyFrame, *more: str, **renamed: str) -> pl.LazyFrame:
    """What a table of triples says by itself."""
    names = {"gold": "gold_answer", "source": "source_name", "model": "teacher_name", **renamed}
    same = [name for name in COLUMNS if name in triples.collect_schema().names() and name not in ("verdict", "reason")]
    columns = dict.fromkeys([*same, *more])
    return triples.select(*columns, *(pl.col(old).alias(new) for new, old in names.items()))


def _rollouts(artifact: Artifact) -> pl.LazyFrame:
    tokens = pl.col("response_ids").list.len()
    gap = pl.col("sampler_logprobs").list.mean() - pl.col("teacher_logprobs").list.mean()
    log = pl.scan_parquet(artifact.path / "rollouts.parquet").select(
        "step",
        "question_id",
        "sample_index",
        "finish_reason",
        sample_id=rollout_id(),
        response="text",
        prompt_tokens=pl.col("prompt_ids").list.len(),
        completion_tokens=tokens,
        gap=gap,
    )
    return _parsed(_asked(artifact, log))


def _answers(artifact: Artifact) -> pl.LazyFrame:
    answers = pl.scan_parquet(artifact.path / "answers.parquet").select(
        pl.exclude("kind", "depth", "answer_extracted", "gold_answer", "student", "tokens"),
        sample_id=answer_id(),
        model="student",
        completion_tokens="tokens",
    )
    return _parsed(_asked(artifact, answers))


def _questions(artifact: Artifact) -> pl.LazyFrame:
    questions = pl.scan_parquet(artifact.path / "questions.parquet")
    return questions.select("question_id", "question", "split", gold="gold_answer", source="kind")


def _asked(artifact: Artifact, rows: pl.LazyFrame) -> pl.LazyFrame:
    """With the questions' texts and gold answers, where the questions are still stored."""
    store = Store(artifact.path.parents[1])
    for parent in artifact.manifest.parents:
        if parent.stage == "questions":
            try:
                asked = _questions(store.find(parent.fingerprint)).select("question_id", "question", "split", "gold")
            except StoreError:
                break
            own = asked.drop("split") if "split" in rows.collect_schema().names() else asked
            return rows.join(own, on="question_id", how="left", maintain_order="left")
    return rows


def _parsed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """With rationale and answer taken out of the response."""

    def take_apart(text: str) -> dict[str, str | None]:
        found = parse(text)
        return {"rationale": found.rationale, "answer": found.answer}

    return rows.with_columns(pl.col("response").map_elements(take_apart, return_dtype=_PARSED).alias("parts")).unnest(
        "parts"
    )
