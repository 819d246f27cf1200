"""Small data sets as `cohobate.datasets.diff` reads them, of rows whose verdict is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from cohobate.config import Verification
from cohobate.datasets.diff import Dataset, labelled
from cohobate.evaluation.verifiers import labels

TEXTS = ("sample_id", "question_id", "question", "response", "rationale", "answer", "gold_answer", "teacher_name")
OF_TEACHER = ("teacher_revision", "provider")


@dataclass(frozen=True)
class Row:
    """What a teacher said to a question whose gold answer is 1."""

    answer: str | None
    gold: str | None = "1"
    truncated: bool = False
    tokens: int = 10
    rationale: str = "because it is so"


def dataset(name: str, rows: Mapping[str, Sequence[Row]], failed: Sequence[str] = ()) -> Dataset:
    """rows: the samples of each question, judged by the verifier exact. failed: questions of failed requests."""
    made = [
        {
            "sample_id": f"{question}/{index}",
            "question_id": question,
            "sample_index": index,
            "question": f"what is {question}?",
            "response": "",
            "rationale": row.rationale,
            "answer": row.answer,
            "gold_answer": row.gold,
            "teacher_name": name,
            "teacher_revision": None,
            "provider": "endpoint",
            "finish_reason": "length" if row.truncated else "stop",
            "truncated": row.truncated,
            "prompt_tokens": 3,
            "completion_tokens": row.tokens,
            "cost_usd": None,
            "latency_ms": 1.0,
        }
        for question, samples in rows.items()
        for index, row in enumerate(samples)
    ]
    kinds = {**dict.fromkeys((*TEXTS, *OF_TEACHER), pl.String), "sample_index": pl.Int32, "cost_usd": pl.Float64}
    frame = pl.DataFrame(made, schema_overrides=kinds)
    return labelled(f"triples/{name}", frame, labels.label(frame, Verification(name="exact")), failed)
