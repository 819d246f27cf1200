"""What a comparison found: plain JSON values from manifests and tables; nothing is computed by a model here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from cohobate.config import Compare, Recipe
from cohobate.core.statistics import Interval, over_seeds, paired
from cohobate.experiments.comparison import cost_to_reach
from cohobate.experiments.comparison.costs import Curve
from cohobate.experiments.comparison.costs import curves as costs_of
from cohobate.experiments.comparison.plan import chosen_methods, compare_section, from_base, from_start, reference
from cohobate.experiments.comparison.runner import Trained
from cohobate.store.artifacts import Artifact

Facts = dict[str, Any]


def findings(
    recipe: Recipe, start: Artifact, start_scores: Artifact, start_triples: Artifact, trained: Sequence[Trained]
) -> Facts:
    """Everything that the table and the page show; `split` is the first of the recipe's evaluation.splits."""
    compare, split = compare_section(recipe), recipe.evaluation.splits[0]
    drawn = costs_of(trained, start_triples)
    runs = [_run(one, split, drawn[one.run.method, one.run.seed][-1]) for one in trained]
    by_method = {name: [one for one in trained if one.run.method == name] for name in chosen_methods(compare)}
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
        "reached": _reached(compare, drawn, common),
        "differences": _differences(compare, by_method, runs),
        "runs": runs,
        "points": [
            {"method": method, "seed": seed, **point} for (method, seed), curve in drawn.items() for point in curve
        ],
    }


def _scores(evaluation: Artifact, split: str, student: str) -> Facts:
    """By decoding: {n, accuracy, low, high}; empty for a teacher behind an endpoint."""
    rows = evaluation.manifest.metrics
    assert isinstance(rows, list)
    kept = ("n", "accuracy", "low", "high")
    return {
        row["decoding"]: {name: row[name] for name in kept}
        for row in rows
        if row["split"] == split and row["student"] == student
    }


def _run(one: Trained, split: str, end: dict[str, Any]) -> Facts:
    """One student: where it is, what it can do, what it cost from where its costs count."""
    made = one.student.manifest
    assert isinstance(made.metrics, dict)
    return {
        "method": one.run.method,
        "seed": one.run.seed,
        "student": one.student.id,
        "evaluation": one.scores.id,
        "triples": one.triples.id,
        "scores": _scores(one.scores, split, one.run.stage),
        **{name: end[name] for name in cost_to_reach.COSTS},
        "validation": end["accuracy"],
        "alarm": made.metrics["alarm"],
        "seconds": made.seconds,
    }


def _method(
    compare: Compare, name: str, found: Sequence[Trained], start_scores: Artifact, split: str, runs: list[Facts]
) -> Facts:
    """A method over its seeds."""
    own, method = [run for run in runs if run["method"] == name], compare.methods[name]
    decodings = list(own[0]["scores"])
    return {
        "method": name,
        "about": method.about,
        "stage": method.stage,
        "start": method.start,
        "seeds": len(own),
        "n": own[0]["scores"][decodings[0]]["n"],
        "scores": {d: over_seeds([run["scores"][d]["accuracy"] for run in own]).as_row() for d in decodings},
        "gain": {d: _gain(found, start_scores, split, d, own) for d in decodings},
        **{cost: math.fsum(run[cost] for run in own) / len(own) for cost in cost_to_reach.COSTS},
        "alarms": sum(run["alarm"] is not None for run in own),
    }


def _gain(found: Sequence[Trained], start_scores: Artifact, split: str, decoding: str, own: list[Facts]) -> Facts:
    """How much better than the start, which is one and the same student: over seeds, and paired over questions.

    verdict: better or worse where both intervals agree on it, else unclear; with one seed the questions alone decide.
    """
    begun = _scores(start_scores, split, "sft")[decoding]["accuracy"]
    seeds = over_seeds([run["scores"][decoding]["accuracy"] - begun for run in own])
    before = _by_question([start_scores], split, decoding, "sft")
    after = _by_question([one.scores for one in found], split, decoding, found[0].run.stage)
    both = after.join(before, on="question_id", suffix="_before")
    questions = paired((both["share"] - both["share_before"]).to_list())
    intervals = [questions, seeds] if seeds.bounded else [questions]
    better, worse = all(each.low > 0 for each in intervals), all(each.high < 0 for each in intervals)
    verdict = "better" if better else "worse" if worse else "unclear"
    return {
        **seeds.as_row(),
        "questions_low": questions.low,
        "questions_high": questions.high,
        "verdict": verdict,
    }


def _by_question(evaluations: Sequence[Artifact], split: str, decoding: str, student: str) -> pl.DataFrame:
    """question_id, share: of right answers over all samples of all evaluations."""
    frames = [
        pl.read_parquet(
            each.path / "answers.parquet", columns=["question_id", "student", "split", "decoding", "verdict"]
        )
        for each in evaluations
    ]
    chosen = pl.concat(frames).filter(split=split, decoding=decoding, student=student)
    return chosen.group_by("question_id").agg(share=(pl.col("verdict") == "correct").mean()).sort("question_id")


def _reached(compare: Compare, drawn: dict[tuple[str, int], Curve], methods: Sequence[str]) -> list[Facts]:
    """For each target and cost a row a method: how many seeds came up to it, what they paid, how often the reference's.

    Targets that the start has reached already are left out.
    """
    by_method = {name: [curve for (method, _), curve in drawn.items() if method == name] for name in methods}
    begun = [curve[0]["accuracy"] for curves_ in by_method.values() for curve in curves_]
    rows = []
    for target in (target for target in compare.targets if begun and target > max(begun)):
        for cost in cost_to_reach.COSTS:
            found = {name: cost_to_reach.reach(by_method[name], target, cost) for name in methods}
            to = found.get(reference(compare))
            rows += [
                {
                    "target": target,
                    "cost": cost,
                    "method": name,
                    "reached": len(one.paid),
                    "seeds": len(one.costs),
                    "paid": _row(cost_to_reach.typical(one)),
                    "spent": math.fsum(one.spent) / len(one.spent),
                    "ratio": _ratio(one, to) if to and name != reference(compare) else None,
                }
                for name, one in found.items()
            ]
    return rows


def _differences(compare: Compare, by_method: dict[str, list[Trained]], runs: list[Facts]) -> list[Facts]:
    """Each method less the one that it is held against, seed by seed."""
    scores = {(run["method"], run["seed"]): run["scores"] for run in runs}
    rows = []
    for name in by_method:
        other = compare.methods[name].against
        shared = [seed for method, seed in scores if method == name and (other, seed) in scores] if other else []
        if other and shared:
            by_seed = {
                d: [scores[name, s][d]["accuracy"] - scores[other, s][d]["accuracy"] for s in shared]
                for d in scores[name, shared[0]]
            }
            rows.append(
                {
                    "method": name,
                    "against": other,
                    "seeds": len(shared),
                    **{decoding: over_seeds(values).as_row() for decoding, values in by_seed.items()},
                }
            )
    return rows


def _row(interval: Interval | None) -> Facts | None:
    return interval.as_row() if interval else None


def _ratio(paid: cost_to_reach.Reached, to: cost_to_reach.Reached) -> Facts | None:
    """{mean, low, high, bound}."""
    ratio = cost_to_reach.ratio(paid, to)
    return {**ratio.times.as_row(), "bound": ratio.bound} if ratio else None
