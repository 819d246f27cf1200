"""Cost of each student at its evaluation points, that of the student it goes on from included."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cohobate.config import BASE
from cohobate.core.errors import QuestionsError
from cohobate.experiments.comparison.facts import CurvePoint
from cohobate.experiments.comparison.runner import TrainedStudent
from cohobate.store.artifacts import Artifact

Curve = list[CurvePoint]
Curves = dict[tuple[str, int], Curve]
"""By method and seed."""


def cost_curves(trained: Sequence[TrainedStudent], start_triples: Artifact) -> Curves:
    """Evaluation points of each student, in order of their steps.

    Costs and steps count from the base student for methods that begin there, else from the start, whose triples
    are paid: the teacher's FLOPs for other triples are charged in proportion to the share learnt, each set once.
    `trained` is in the order of the plan. Raises QuestionsError for a student without evaluation points.
    """
    curves: Curves = {}
    paid: dict[tuple[str, int], set[str]] = {}
    for student in trained:
        run = student.run
        key, start = (run.method, run.seed), (run.start, run.seed)
        already_paid = paid.get(start, set() if run.start == BASE else {start_triples.fingerprint})
        end_of_start = curves[start][-1] if start in curves else None
        curves[key] = _curve(student, end_of_start, free=student.triples.fingerprint in already_paid)
        paid[key] = already_paid | {student.triples.fingerprint}
    return curves


def _curve(trained: TrainedStudent, start: CurvePoint | None, *, free: bool) -> Curve:
    generation = 0 if free else _generation_flops(trained.triples)
    points = pl.read_parquet(trained.student.path / "points.parquet")
    if points.is_empty():
        raise QuestionsError(
            f"{trained.student.id} has no evaluation points: its questions have no validation split; give them one"
        )
    curve: Curve = []
    for row in points.sort("step").to_dicts():
        teacher = row["teacher_flops"] + round(generation * _share_learnt(trained, row["step"]))
        student, step = row["student_flops"], row["step"]
        if start is not None:
            teacher, student, step = (
                teacher + start["teacher_flops"],
                student + start["student_flops"],
                step + start["step"],
            )
        curve.append(
            {
                "step": step,
                "teacher_flops": teacher,
                "student_flops": student,
                "flops": teacher + student,
                "decoding": row["decoding"],
                "n": row["n"],
                "accuracy": row["accuracy"],
                "low": row["low"],
                "high": row["high"],
            }
        )
    return curve


def _share_learnt(trained: TrainedStudent, step: int) -> float:
    """Share of the student's triples that its first `step` batches held."""
    recipe = trained.run.recipe
    if trained.run.stage == "opd":
        return float(recipe.opd.uses_triples)
    triples = int(trained.student.manifest.named_metrics["triples"])
    return min(1.0, step * recipe.sft.batch / max(1, triples))


def _generation_flops(triples: Artifact) -> int:
    """FLOPs of generating the triples, whichever run has paid for them."""
    return sum(entry["flops"] for entry in triples.manifest.ledger if entry["work"] == "generation")
