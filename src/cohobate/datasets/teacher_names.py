"""The teachers of a dataset by name: the revisions that were asked, and models that changed under one name."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl

from cohobate.teachers.base import endpoint_fingerprint
from cohobate.teachers.probes import first_change

_HERE = ("transformers", "vllm")  # providers of a model on this machine, whose content identifies it


def teacher_label() -> pl.Expr:
    """The name, and of an endpoint with a revision that too. Columns: teacher_name, teacher_revision, provider."""
    revised = pl.col("teacher_revision").is_not_null() & ~pl.col("provider").is_in(_HERE)
    named = pl.format("{} ({})", "teacher_name", "teacher_revision")
    return pl.when(revised).then(named).otherwise("teacher_name")


def changed_teachers(triples: Path) -> list[str]:
    """A sentence for each endpoint whose probes began to differ between the responses of the artifact's folder."""
    columns = ["teacher_name", "teacher_revision", "provider"]
    samples = pl.scan_parquet(triples / "triples.parquet").select(*columns, "created_at")
    served = samples.filter(~pl.col("provider").is_in(_HERE)).collect()
    sentences = []
    for (name, revision, provider), rows in served.group_by(columns, maintain_order=True):
        first = first_change(endpoint_fingerprint(provider, name, revision))
        before = int((rows["created_at"] < datetime.fromisoformat(first)).sum()) if first else 0
        if first and 0 < before < len(rows):
            sentences.append(
                f"{name}: its probes were answered otherwise from {first[:16].replace('T', ' ')} UTC on, so another "
                f"model may stand behind the name; {before:,} responses are from before, {len(rows) - before:,} since"
            )
    return sentences
