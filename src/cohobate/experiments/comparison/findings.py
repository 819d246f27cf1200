"""Findings of a comparison as plain JSON values, computed from manifests and tables alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import polars as pl

from cohobate.config import Compare
from cohobate.core.statistics import Interval, over_seeds, paired, shares_over_seeds
from cohobate.experiments.comparison.cost_to_reach import SeedCosts, cost_ratio, geometric_mean, seed_costs
from cohobate.experiments.comparison.costs import Curve, Curves, cost_curves
from cohobate.experiments.comparison.facts import (
    COSTS,
    ArtifactFacts,
    Decoding,
    DifferenceFacts,
    DistanceFacts,
    Facts,
    Gain,
    MethodFacts,
    Ratio,
    RunFacts,
    Score,
    Scores,
    Spread,
    TargetFacts,
)
from cohobate.experiments.comparison.plan import chosen_methods, from_base, from_start, reference
from cohobate.experiments.comparison.runner import ComparisonRunner, TrainedStudent
from cohobate.experiments.grouping import group_by
from cohobate.store.artifacts import Artifact


def findings(runner: ComparisonRunner) -> Facts:
    """Everything that tables and page show; `split` is the first of the recipe's evaluation.splits."""
    recipe, trained = runner.recipe, runner.trained()
    start_triples, start, start_scores = runner.triples(recipe), runner.start(), runner.start_scores()
    compare, split = recipe.section(Compare), recipe.evaluation.splits[0]
    curves = cost_curves(trained, start_triples)
    runs = [_run(student, split, curves[student.run.method, student.run.seed]) for student in trained]
    by_method = {name: [each for each in trained if each.run.method == name] for name in chosen_methods(compare)}
    common = from_start(compare)
    return {
        "title": recipe.report.title or recipe.name,
        "description": recipe.description,
        "split": split,
        "decodings": list(recipe.evaluation.decodings),
        "seeds": compare.seeds,
        "reference": reference(compare),
        "start": {
            "id": start.id,
            "evaluation": start_scores.id,
            "triples": start_triples.id,
            "scores": _scores(start_scores, split, "sft"),
        },
        "base": _scores(start_scores, split, "base"),
        "teacher": _scores(start_scores, split, "teacher"),
        "methods": [
            _method(compare, name, by_method[name], start_scores, split, runs)
            for name in [*common, *(name for name in by_method if name not in common)]
        ],
        "from_start": common,
        "from_base": from_base(compare),
        "reached": _targets(compare, curves, common),
        "differences": _differences(compare, by_method, runs),
        "distances": _distances(runner, start_scores, split, runs),
        "runs": runs,
        "points": [
            {"method": method, "seed": seed, **point} for (method, seed), curve in curves.items() for point in curve
        ],
        "made": [_artifact(artifact) for artifact in (start_triples, start, start_scores)],
    }


def _artifact(artifact: Artifact) -> ArtifactFacts:
    manifest = artifact.manifest
    return {
        "id": manifest.id,
        "seconds": manifest.seconds,
        "created_at": manifest.created_at,
        "fingerprint": manifest.fingerprint,
    }


def _scores(evaluation: Artifact, split: str, student: str) -> Scores:
    """Scores by decoding; empty for a teacher behind an endpoint."""
    return {
        score.decoding: {
            "n": score.n,
            "accuracy": score.accuracy.mean,
            "low": score.accuracy.low,
            "high": score.accuracy.high,
        }
        for score in evaluation.manifest.scores
        if score.split == split and score.student == student
    }


def _run(trained: TrainedStudent, split: str, curve: Curve) -> RunFacts:
    end, manifest = curve[-1], trained.student.manifest
    return {
        "method": trained.run.method,
        "seed": trained.run.seed,
        "student": trained.student.id,
        "evaluation": trained.scores.id,
        "triples": trained.triples.id,
        "scores": _scores(trained.scores, split, trained.run.stage),
        "flops": end["flops"],
        "teacher_flops": end["teacher_flops"],
        "student_flops": end["student_flops"],
        "step": end["step"],
        "validation": end["accuracy"],
        "alarm": manifest.named_metrics["alarm"],
        "seconds": manifest.seconds,
    }


def _method(
    compare: Compare,
    name: str,
    trained: Sequence[TrainedStudent],
    start_scores: Artifact,
    split: str,
    runs: Sequence[RunFacts],
) -> MethodFacts:
    own, method = [run for run in runs if run["method"] == name], compare.methods[name]
    decodings = list(own[0]["scores"])
    mean = {cost: math.fsum(run[cost] for run in own) / len(own) for cost in COSTS}
    return {
        "method": name,
        "about": method.about,
        "stage": method.stage,
        "start": method.start,
        "seeds": len(own),
        "n": own[0]["scores"][decodings[0]]["n"],
        "scores": {d: _accuracy([run["scores"][d] for run in own]) for d in decodings},
        "gain": {d: _gain(trained, start_scores, split, d, own) for d in decodings},
        "flops": mean["flops"],
        "teacher_flops": mean["teacher_flops"],
        "student_flops": mean["student_flops"],
        "step": mean["step"],
        "alarms": sum(run["alarm"] is not None for run in own),
    }


def _gain(
    trained: Sequence[TrainedStudent],
    start_scores: Artifact,
    split: str,
    decoding: Decoding,
    runs: Sequence[RunFacts],
) -> Gain:
    """Accuracy of a method's students less that of the start, which is one student for all seeds.

    verdict: better or worse where both intervals agree on it, else unclear; with one seed, or seeds that all have the
    same accuracy, the questions alone decide.
    """
    start = _scores(start_scores, split, "sft")[decoding]["accuracy"]
    gains = [run["scores"][decoding]["accuracy"] - start for run in runs]
    seeds = over_seeds(gains)
    before = _share_by_question([start_scores], split, decoding, "sft")
    after = _share_by_question([each.scores for each in trained], split, decoding, trained[0].run.stage)
    both = after.join(before, on="question_id", suffix="_before")
    questions = paired((both["share"] - both["share_before"]).to_list())
    if len(gains) > 1 and len(set(gains)) == 1:
        seeds = Interval(seeds.mean, questions.low, questions.high)
    intervals = [questions, seeds] if seeds.bounded else [questions]
    better, worse = all(each.low > 0 for each in intervals), all(each.high < 0 for each in intervals)
    return {
        **_spread(seeds),
        "questions_low": questions.low,
        "questions_high": questions.high,
        "verdict": "better" if better else "worse" if worse else "unclear",
    }


def _share_by_question(evaluations: Sequence[Artifact], split: str, decoding: str, student: str) -> pl.DataFrame:
    """question_id and share: of correct answers among all samples of all evaluations."""
    frames = [
        pl.read_parquet(
            each.path / "answers.parquet", columns=["question_id", "student", "split", "decoding", "verdict"]
        )
        for each in evaluations
    ]
    chosen = pl.concat(frames).filter(split=split, decoding=decoding, student=student)
    return chosen.group_by("question_id").agg(share=(pl.col("verdict") == "correct").mean()).sort("question_id")


def _targets(compare: Compare, curves: Curves, methods: Sequence[str]) -> list[TargetFacts]:
    """One row per target, cost and method. Targets that the start has reached already are left out."""
    by_method = {name: [curve for (method, _), curve in curves.items() if method == name] for name in methods}
    start = [curve[0]["accuracy"] for of_method in by_method.values() for curve in of_method]
    rows: list[TargetFacts] = []
    for target in (target for target in compare.targets if start and target > max(start)):
        for cost in COSTS:
            costs = {name: seed_costs(by_method[name], target, cost) for name in methods}
            of_reference = costs.get(reference(compare))
            rows += [
                {
                    "target": target,
                    "cost": cost,
                    "method": name,
                    "reached": len(own.paid),
                    "seeds": len(own.costs),
                    "paid": _spread(paid) if (paid := geometric_mean(own)) else None,
                    "spent": math.fsum(own.spent) / len(own.spent),
                    "ratio": _ratio(own, of_reference) if of_reference and name != reference(compare) else None,
                }
                for name, own in costs.items()
            ]
    return rows


def _differences(
    compare: Compare, by_method: dict[str, list[TrainedStudent]], runs: Sequence[RunFacts]
) -> list[DifferenceFacts]:
    """Accuracy of each method with `against` less that of the other one, seed by seed."""
    scores = {(run["method"], run["seed"]): run["scores"] for run in runs}
    rows: list[DifferenceFacts] = []
    for name in by_method:
        other = compare.methods[name].against
        shared = [seed for method, seed in scores if method == name and (other, seed) in scores] if other else []
        if other and shared:
            row: DifferenceFacts = {"method": name, "against": other, "seeds": len(shared)}
            for decoding in scores[name, shared[0]]:
                pairs = ((scores[name, s][decoding], scores[other, s][decoding]) for s in shared)
                row[decoding] = _spread(over_seeds([own["accuracy"] - its["accuracy"] for own, its in pairs]))
            rows.append(row)
    return rows


def _distances(
    runner: ComparisonRunner, start_scores: Artifact, split: str, runs: Sequence[RunFacts]
) -> list[DistanceFacts]:
    """Of base and start with the intervals of their questions, of methods with those over their seeds."""
    rows: list[DistanceFacts] = []
    for name, measured in group_by(runner.distances(), lambda each: each[0]).items():
        metrics = [artifact.manifest.named_metrics for _, artifact in measured]
        own = {"base": "base", "start": "sft"}.get(name)
        accuracy = _first_accuracy(_scores(start_scores, split, own)) if own else _over_runs(name, runs)
        rows.append(
            {
                "model": name,
                "seeds": 0 if own else len(metrics),
                "n": metrics[0]["n"],
                "reverse_kl": metrics[0]["reverse_kl"] if own else _mean_of(metrics, "reverse_kl"),
                "agreement": metrics[0]["agreement"] if own else _mean_of(metrics, "agreement"),
                "accuracy": accuracy,
            }
        )
    return rows


def _mean_of(metrics: Sequence[Mapping[str, Any]], name: str) -> Spread:
    return _spread(over_seeds([each[name]["mean"] for each in metrics]))


def _first_accuracy(scores: Scores) -> Spread | None:
    first = next(iter(scores.values()), None)
    return first and {"mean": first["accuracy"], "low": first["low"], "high": first["high"]}


def _over_runs(method: str, runs: Sequence[RunFacts]) -> Spread:
    return _accuracy([next(iter(run["scores"].values())) for run in runs if run["method"] == method])


def _accuracy(scores: Sequence[Score]) -> Spread:
    """Mean accuracy of a method's runs on the same questions."""
    return _spread(shares_over_seeds([score["accuracy"] for score in scores], scores[0]["n"]))


def _spread(interval: Interval) -> Spread:
    return cast(Spread, interval.as_row())


def _ratio(costs: SeedCosts, of_reference: SeedCosts) -> Ratio | None:
    ratio = cost_ratio(costs, of_reference)
    return {**_spread(ratio.times), "bound": ratio.bound} if ratio else None
