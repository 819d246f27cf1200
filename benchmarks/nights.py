"""The second day of a nightly recipe, from the promoted student and as a full run: FLOPs of the ledger, and accuracy.

Day 1 is a full run, promoted. On day 2 a tenth more questions are there to learn from. Each seed has a data folder of
its own; the full run of day 2 has another, so that nothing that it makes was paid before.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cohobate.config import Recipe
from cohobate.config.load import changed, load_recipe
from cohobate.core.statistics import Interval, over_seeds, paired
from cohobate.datasets import gate
from cohobate.stages import evaluation, night, opd, questions, report, sft, triples
from cohobate.stages.functions import pipeline
from cohobate.store import promotion
from cohobate.store.artifacts import DATA, Artifact


@dataclass(frozen=True)
class Night:
    """The artifacts of a night, and the gate's decision on them."""

    artifacts: list[Artifact]
    decision: gate.Decision

    def flops(self, before: Night | None = None) -> int:
        """FLOPs that the night paid. Artifacts that `before` has too do not count; neither does work paid earlier."""
        earlier = {each.fingerprint for each in before.artifacts} if before else set()
        entries = [
            entry for each in self.artifacts if each.fingerprint not in earlier for entry in each.manifest.ledger
        ]
        return sum(entry["flops"] for entry in entries if entry["paid"] == "here")

    def correct(self, split: str, decoding: str = "greedy") -> dict[str, bool]:
        """Whether the last student answers each question right."""
        import polars as pl

        [scores] = [each for each in self.artifacts if each.stage == "evaluation"]
        answers = pl.read_parquet(scores.path / "answers.parquet")
        chosen = answers.filter(student="opd", split=split, decoding=decoding)
        return dict(chosen.select("question_id", pl.col("verdict") == "correct").iter_rows())


def continued(recipe: Recipe, promoted: night.PromotedRun) -> list[Artifact]:
    """The stages as flows/nightly.py orders them, from the promoted student on."""
    asked = questions.write(recipe)
    night.require_held_out(recipe, promoted, asked)
    taught = triples.write(recipe, asked)
    rows = night.write(recipe, promoted, asked, taught)
    if not night.has_rows(rows):
        return [asked, taught, *promoted.models, *promoted.pages]
    own = night.recipe_of(recipe, rows)
    start = sft.train(own, rows, rows, promoted.student)
    student = opd.train(own, start, rows, rows)
    scores = evaluation.evaluate(recipe, asked, [student], alone=True, before=promoted.student)
    return [asked, taught, start, student, scores, report.write(recipe, [asked, taught, rows, start, student, scores])]


def run(recipe: Recipe) -> Night:
    """A night: made, judged by the gate, and promoted where it passes."""
    promoted = night.promoted_run(recipe) if recipe.nightly.start == "promoted" else None
    artifacts = continued(recipe, promoted) if promoted else list(pipeline(recipe))
    decision = gate.decide(recipe.name, artifacts, limits=recipe.gate)
    if decision.changed and not decision.objections:
        with promotion.changing(recipe.name):
            promotion.promote(recipe.name, artifacts, "passed the gate")
    return Night(artifacts, decision)


def days(recipe: Recipe, seed: int, share: float) -> tuple[Recipe, Recipe]:
    """The recipe of both days: on the second there is `share` more to learn from."""
    seeded = {"sft": {"seed": seed}, "opd": {"seed": seed}, "nightly": {"seed": seed}}
    first = changed(recipe, seeded, f"recipe {recipe.name}")
    more = {name: round(getattr(first.questions, name) * (1 + share)) for name in ("train", "fresh")}
    return first, changed(first, {"questions": more}, f"recipe {recipe.name}, day 2")


@dataclass(frozen=True)
class Comparison:
    """Of one seed: FLOPs of the second day by its part of a full run, and who answers which question right."""

    seed: int
    ratio: float
    passed: bool
    objections: Sequence[str]
    night: dict[str, bool]
    full: dict[str, bool]
    first: dict[str, bool]

    @property
    def difference(self) -> Interval:
        """Accuracy of the night's student less that of the full run's, paired by question."""
        return paired([float(self.night[name]) - float(self.full[name]) for name in self.full])


def compare(recipe: Recipe, folder: Path, seed: int, share: float, split: str = "test") -> Comparison:
    """Both days in `folder`, which is left with the data of both."""
    first_day, second_day = days(recipe, seed, share)
    fresh = changed(second_day, {"nightly": {"from": "base"}}, "a full run")
    with_promoted = changed(second_day, {"nightly": {"from": "promoted"}}, "from the promoted student")
    of_night, of_full = folder / f"seed-{seed}", folder / f"seed-{seed}-full"
    for each in (of_night, of_full):  # an earlier measurement, of which the gate would promote nothing again
        if each.exists():
            shutil.rmtree(each)
    first = _in(of_night, first_day)
    tonight = _in(of_night, with_promoted)
    full = _in(of_full, fresh)
    return Comparison(
        seed,
        tonight.flops(first) / full.flops(),
        tonight.decision.changed and not tonight.decision.objections,
        tonight.decision.objections,
        *(each.correct(split) for each in (tonight, full, first)),
    )


def _in(folder: Path, recipe: Recipe) -> Night:
    before = os.environ.get(DATA)
    os.environ[DATA] = str(folder)
    try:
        return run(recipe)
    finally:
        os.environ.pop(DATA) if before is None else os.environ.update({DATA: before})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights", description=__doc__)
    parser.add_argument("recipe", nargs="?", default="arithmetic")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--share", type=float, default=0.1, help="new questions of day 2, in part of day 1's")
    parser.add_argument(
        "--folder", type=Path, default=Path("nights"), help="for the data; a seed's earlier ones are deleted"
    )
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.set)
    compared = []
    print("| seed | FLOPs of a full run | gate | day 1 | day 2, promoted | day 2, full | difference |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        compared.append(one := compare(recipe, arguments.folder, seed, arguments.share))
        verdict = "passed" if one.passed else f"refused: {'; '.join(one.objections)}"
        shares = [f"{_share(each):.1%}" for each in (one.first, one.night, one.full)]
        print(f"| {seed} | {one.ratio:.1%} | {verdict} | {' | '.join(shares)} | {_text(one.difference)} |", flush=True)
    print(f"\nn = {len(compared[0].full)} questions a seed; over {len(compared)} seeds, by Student's t:")
    print(f"FLOPs {_text(over_seeds([each.ratio for each in compared]), sign='')}")
    print(f"accuracy {_text(over_seeds([each.difference.mean for each in compared]))}")


def _share(correct: dict[str, bool]) -> float:
    return sum(correct.values()) / len(correct)


def _text(value: Interval, sign: str = "+") -> str:
    return f"{value.mean:{sign}.1%} [{value.low:{sign}.1%}, {value.high:{sign}.1%}]"


if __name__ == "__main__":
    main()
