"""The facts of the report, gathered from manifests and tables; no model runs here.

`gather` gives plain JSON values: the page, the Markdown and `report.json` show the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import polars as pl

from cohobate.config import Recipe
from cohobate.report.transcripts import shaded_rollouts
from cohobate.store.artifacts import DERIVED, STAGES, Artifact, Store
from cohobate.store.compute_ledger import is_teacher
from cohobate.store.manifest import Score

Facts = dict[str, Any]
_ORDER = (*STAGES[:2], *DERIVED, *STAGES[2:])  # of parents: what is made of questions and triples follows them
_TRENDS = ["step", "reverse_kl", "entropy", "mean_length", "truncated", "grad_norm", "mismatch_k3"]


def gather(recipe: Recipe, artifacts: Sequence[Artifact]) -> Facts:
    """Everything the report shows of `artifacts`, which are one of each stage before it."""
    by_stage = {artifact.stage: artifact for artifact in artifacts}
    # A stage of no steps hands on the model that it got, whose scores are shown once.
    idle = [stage for stage in ("sft", "opd") if not by_stage[stage].manifest.named_metrics["steps"]]
    scores = [score for score in by_stage["evaluation"].manifest.scores if score.student not in idle]
    ledger = _ledger(artifacts)
    return {
        "title": recipe.report.title or recipe.name,
        "description": recipe.description,
        "headline": headline(scores),
        "opd_steps": by_stage["opd"].manifest.named_metrics["steps"],
        "scores": [score.as_row() for score in scores],
        "triples": by_stage["triples"].manifest.named_metrics,
        "curation": curation_of(by_stage),
        "ledger": ledger,
        "points": _points(by_stage),
        "trends": _trends(by_stage["opd"]),
        "answers": _answers(recipe, by_stage, scores),
        "rollouts": shaded_rollouts(by_stage["opd"], recipe.report.rollouts, recipe.report.seed),
        "lineage": [_lineage(artifact) for artifact in artifacts],
        "environment": by_stage["evaluation"].manifest.environment,
        "code": by_stage["evaluation"].manifest.code,
    }


def curation_of(by_stage: dict[str, Artifact]) -> Facts | None:
    """The curated artifact that sft was trained on, if it was: {id, samples, rejected by reason, rejects}."""
    parents = by_stage["sft"].manifest.parents
    used = next((parent for parent in parents if parent.stage == "triples"), None)  # none: the rows of a night
    if used is None or used.fingerprint == by_stage["triples"].fingerprint:
        return None
    curated = Store(by_stage["triples"].path.parents[1]).find(used.fingerprint).manifest
    rejected = curated.named_metrics["rejected"]
    return {"id": used.id, "samples": curated.rows, "rejected": rejected, "rejects": sum(rejected.values())}


def headline(scores: Sequence[Score]) -> Facts | None:
    """Greedy accuracy of each student on the first split, and how much of the gap to the teacher OPD closed.

    gap_closed: (opd - sft) / (teacher - sft); None where the teacher is not ahead of SFT.
    """
    if not scores:
        return None
    split, decoding = scores[0].split, scores[0].decoding
    chosen = {score.student: score for score in scores if (score.split, score.decoding) == (split, decoding)}
    gap = None
    if {"sft", "opd", "teacher"} <= chosen.keys():
        sft, opd, teacher = (chosen[name].accuracy.mean for name in ("sft", "opd", "teacher"))
        gap = (opd - sft) / (teacher - sft) if teacher > sft else None
    students = {name: score.as_row() for name, score in chosen.items()}
    return {"split": split, "decoding": decoding, "students": students, "gap_closed": gap}


def _ledger(artifacts: Sequence[Artifact]) -> Facts:
    """The entries of every stage, with shares of the total; a method's cost excludes evaluation."""
    entries = [entry for artifact in artifacts for entry in artifact.manifest.ledger]
    total = sum(entry["flops"] for entry in entries)
    method = [entry for entry in entries if entry["work"] != "evaluation"]
    return {
        "entries": [{**entry, "share": entry["flops"] / total if total else 0.0} for entry in entries],
        "flops": total,
        "method_flops": sum(entry["flops"] for entry in method),
        "unknown_tokens": sum(e["tokens"] for e in method if not e["params"] and is_teacher(e["model"])),
        "teacher_tokens": sum(e["tokens"] for e in method if is_teacher(e["model"])),
        "seconds": {artifact.stage: artifact.manifest.seconds for artifact in artifacts},
    }


def _points(by_stage: dict[str, Artifact]) -> list[Facts]:
    """Evaluation points of both training stages; `flops` is all that both models have spent by then."""
    spent = _method_flops(by_stage["triples"])
    steps = 0
    points = []
    for stage in ("sft", "opd"):
        artifact = by_stage[stage]
        if not artifact.manifest.named_metrics["steps"]:
            continue
        rows = pl.read_parquet(artifact.path / "points.parquet").to_dicts()
        points += [
            {
                "stage": stage,
                **{name: row[name] for name in ("step", "decoding", "n", "accuracy", "low", "high")},
                "total_step": steps + row["step"],
                "flops": spent + row["teacher_flops"] + row["student_flops"],
            }
            for row in rows
        ]
        spent += _method_flops(artifact)
        steps += artifact.manifest.named_metrics["steps"]
    return points


def _method_flops(artifact: Artifact) -> int:
    return sum(entry["flops"] for entry in artifact.manifest.ledger if entry["work"] != "evaluation")


def _trends(opd: Artifact) -> list[Facts]:
    """The measurements of each OPD step."""
    frame = pl.read_parquet(opd.path / "metrics.parquet")
    if frame.is_empty():
        return []
    flops = (pl.col("teacher_flops") + pl.col("student_flops")).alias("flops")
    return frame.select(*[name for name in _TRENDS if name in frame.columns], flops).to_dicts()


def _answers(recipe: Recipe, by_stage: dict[str, Artifact], scores: Sequence[Score]) -> list[Facts]:
    """Questions drawn by the report's seed, each with the first answer of every student in `scores`.

    Half of them are drawn from all, half from those on which the verdicts differ: `differ` says which.
    """
    shown = headline(scores)
    if shown is None or not recipe.report.questions:
        return []
    answers = pl.read_parquet(by_stage["evaluation"].path / "answers.parquet").filter(
        (pl.col("split") == shown["split"])
        & (pl.col("decoding") == shown["decoding"])
        & (pl.col("sample_index") == 0)
        & pl.col("student").is_in(list(shown["students"]))
    )
    chosen = draw_questions(answers, recipe.report.questions, recipe.report.seed)
    drawn = list(chosen)
    texts = dict(
        pl.read_parquet(by_stage["questions"].path / "questions.parquet")
        .filter(pl.col("question_id").is_in(drawn))
        .select("question_id", "question")
        .iter_rows()
    )
    columns = ["student", "response", "answer_extracted", "verdict", "finish_reason"]
    shown_answers = []
    for name in drawn:
        rows = answers.filter(pl.col("question_id") == name)
        shown_answers.append(
            {
                "question_id": name,
                "question": texts[name],
                "gold_answer": rows["gold_answer"][0],
                "differ": chosen[name],
                "responses": rows.select(columns).to_dicts(),
            }
        )
    return shown_answers


def draw_questions(answers: pl.DataFrame, count: int, seed: int) -> dict[str, bool]:
    """`count` question ids, and whether each was drawn from those on which the trained students' verdicts differ."""
    draw = random.Random(seed)
    trained = answers.filter(pl.col("student").is_in(["sft", "opd"]))
    varied = trained.group_by("question_id", maintain_order=True).agg(pl.col("verdict").n_unique() > 1)
    differing = varied.filter("verdict")["question_id"].to_list()
    chosen = dict.fromkeys(draw.sample(differing, min(count // 2, len(differing))), True)
    others = [name for name in answers["question_id"].unique(maintain_order=True).to_list() if name not in chosen]
    missing = min(count - len(chosen), len(others))
    return dict.fromkeys(draw.sample(others, missing), False) | chosen


def _lineage(artifact: Artifact) -> Facts:
    manifest = artifact.manifest
    return {
        "id": manifest.id,
        "stage": manifest.stage,
        "fingerprint": manifest.fingerprint,
        "parents": [parent.id for parent in sorted(manifest.parents, key=lambda p: _ORDER.index(p.stage))],
        "rows": manifest.rows,
        "seconds": manifest.seconds,
        "created_at": manifest.created_at,
    }
