"""The table of the experiment: which exam stands where, means over seeds, the page and its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe
from cohobate.core.formatting import percent_interval
from cohobate.core.statistics import Interval, over_seeds
from cohobate.report.experiment import Dot, Page, Table
from cohobate.store.artifacts import Artifact

BEFORE, LEARNT, RECOVERED = "before", "mid-trained", "recovered"
_NAMES = {"handbook-1": "handbook", "handbook-2": "second handbook", "instructions": "instruction following"}


@dataclass(frozen=True)
class Examined:
    """Where an exam stands in the table: round 0 is before anything was learnt."""

    round: int
    arm: str
    seed: int
    phase: str
    exam: Artifact


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per round, arm and phase, in order: {round, arm, phase, seeds, suites: {name: Interval}}."""
    lines = []
    for place in dict.fromkeys((row["round"], row["arm"], row["phase"]) for row in rows):
        chosen = [row for row in rows if (row["round"], row["arm"], row["phase"]) == place]
        values: dict[str, list[float]] = {}
        for row in chosen:
            values.setdefault(row["suite"], []).append(row["accuracy"])
        if place[2] == BEFORE:  # one exam: its interval is that of its questions
            suites = {row["suite"]: Interval.from_row(row, "accuracy") for row in chosen}
        else:
            suites = {suite: over_seeds(accuracies) for suite, accuracies in values.items()}
        seeds = len({row["seed"] for row in chosen})
        lines.append({"round": place[0], "arm": place[1], "phase": place[2], "seeds": seeds, "suites": suites})
    return lines


def page(recipe: Recipe, lines: list[dict[str, Any]], exams: Sequence[Artifact]) -> Page:
    suites = sorted({name for line in lines for name in line["suites"]})
    header = ["round", "documents:chat", "", "seeds", *(_NAMES.get(name, name) for name in suites)]
    cells = [
        [
            str(line["round"]) if line["round"] else "–",
            line["arm"],
            line["phase"],
            str(line["seeds"]) if line["round"] else "–",
            *(percent_interval(line["suites"].get(name)) for name in suites),
        ]
        for line in lines
    ]
    dots = [
        Dot(f"{line['arm']} {line['phase']}", _NAMES.get(name, name), _drawn(line["suites"][name]))
        for name in suites
        for line in lines
        if line["round"] <= 1 and name != "handbook-2" and name in line["suites"]
    ]
    about = (
        "Greedy accuracy; mean over seeds with 95% interval (Student's t), before anything is learnt that of the "
        "questions (Wilson). Handbook: questions in words that were practised on other facts only."
    )
    title = recipe.report.title or f"Learning a handbook and recovering: {recipe.name}"
    table = Table("Learnt, lost, recovered", header, cells, about)
    return Page(title, sentences(lines), [table], dots, "Greedy accuracy in the first round, with 95% interval.", exams)


def sentences(lines: Sequence[dict[str, Any]]) -> list[str]:
    """What each arm learnt, lost and got back, in percentage points of the means."""
    means = {(ln["round"], ln["arm"], ln["phase"]): {k: v.mean for k, v in ln["suites"].items()} for ln in lines}
    [before] = [scores for (number, _, _), scores in means.items() if number == 0]
    said = []
    for number, arm, phase in means:
        if phase != RECOVERED:
            continue
        stations = [before, means[number, arm, LEARNT], means[number, arm, RECOVERED]]
        parts = [
            f"{_NAMES[suite]} {' → '.join(f'{scores[suite]:.1%}' for scores in stations)}"
            for suite in (f"handbook-{number}", "instructions")
            if all(suite in scores for scores in stations)
        ]
        if "instructions" in before:
            short = 100 * (stations[2]["instructions"] - before["instructions"])
            parts.append(f"{short:+.1f} points of instruction following against the start")
        said.append(f"Round {number}, {arm}, before → mid-trained → recovered: {'; '.join(parts)}.")
    return said


def _drawn(accuracy: Interval) -> Interval:
    """Without bounds a point."""
    return accuracy if accuracy.bounded else Interval(accuracy.mean, accuracy.mean, accuracy.mean)
