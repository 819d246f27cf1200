"""What a student had cost at each of its evaluation points, on top of what it began with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from cohobate.config.compare import BASE
from cohobate.core.errors import QuestionsError
from cohobate.experiments.comparison.runner import Trained
from cohobate.store.artifacts import Artifact

_KEPT = ("decoding", "n", "accuracy", "low", "high")
Curve = list[dict[str, Any]]


def curves(trained: Sequence[Trained], start_triples: Artifact) -> dict[tuple[str, int], Curve]:
    """By (method, seed): {step, decoding, n, accuracy, low, high, teacher_flops, student_flops, flops} of each point.

    Costs count from the untaught student for what begins there, else from the start, whose triples are paid: the
    teacher's work on other triples is charged as they are learnt, each once. Steps count likewise. `trained` is in the
    order of the plan.
    """
    found: dict[tuple[str, int], Curve] = {}
    paid: dict[tuple[str, int], set[str]] = {}
    for one in trained:
        name, before = (one.run.method, one.run.seed), (one.run.start, one.run.seed)
        begun = found[before][-1] if before in found else None
        owned = paid.get(before, set() if one.run.start == BASE else {start_triples.fingerprint})
        found[name] = _curve(one, begun, free=one.triples.fingerprint in owned)
        paid[name] = owned | {one.triples.fingerprint}
    return found


def _curve(one: Trained, begun: dict[str, Any] | None, *, free: bool) -> Curve:
    generation = 0 if free else _generation(one.triples)
    points = pl.read_parquet(one.student.path / "points.parquet")
    if points.is_empty():
        raise QuestionsError(
            f"{one.student.id} has no evaluation points: its questions have no validation split; give them one"
        )
    rows = points.sort("step").to_dicts()
    curve = []
    for row in rows:
        teacher = row["teacher_flops"] + round(generation * _share_learnt(one, row["step"]))
        point = {"step": row["step"], "teacher_flops": teacher, "student_flops": row["student_flops"]}
        if begun is not None:
            point = {name: value + begun[name] for name, value in point.items()}
        point["flops"] = point["teacher_flops"] + point["student_flops"]
        curve.append({**point, **{name: row[name] for name in _KEPT}})
    return curve


def _share_learnt(one: Trained, step: int) -> float:
    """Which part of its triples has come up after so many steps."""
    config = one.run.recipe
    if one.run.stage == "opd":
        return float(config.opd.uses_triples)
    made = one.student.manifest.metrics
    assert isinstance(made, dict)
    return min(1.0, step * config.sft.batch / max(1, int(made["triples"])))


def _generation(triples: Artifact) -> int:
    """FLOPs of writing the triples, whoever has paid for them."""
    return sum(entry["flops"] for entry in triples.manifest.ledger if entry["work"] == "generation")
