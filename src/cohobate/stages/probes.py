"""Probes of the teacher: the night's questions give the first ones, and the teacher's key is that of the triples."""

from __future__ import annotations

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact
from cohobate.teachers.probes import ProbeResult


def probe(recipe: Recipe, questions: Artifact) -> ProbeResult:
    """What the probes of a recipe that has some say. Raises StoreError where the replies cannot be kept."""
    import polars as pl

    from cohobate.teachers import probes

    return probes.probe(recipe, pl.read_parquet(questions.path / "questions.parquet"))
