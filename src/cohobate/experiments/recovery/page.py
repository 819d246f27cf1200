"""The page of the recovery experiment: means over seeds, a sentence for each arm, the table and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe
from cohobate.core.formatting import percent_interval
from cohobate.core.statistics import Interval, shares_over_seeds
from cohobate.experiments.grouping import group_by
from cohobate.experiments.recovery.arms import BEFORE, MID_TRAINED, RECOVERED
from cohobate.report.experiment import Dot, Page, Table, drawable
from cohobate.store.artifacts import Artifact

_NAMES = {"handbook-1": "handbook", "handbook-2": "second handbook", "instructions": "instruction following"}


@dataclass(frozen=True)
class PhaseScores:
    """Accuracy of an arm in a phase by suite: over seeds, or before mid-training over the questions of one exam."""

    round: int
    arm: str
    phase: str
    seeds: int
    suites: dict[str, Interval]

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> PhaseScores:
        """The scores that `as_row` gave."""
        suites = {name: Interval.from_row(accuracy) for name, accuracy in row["suites"].items()}
        return cls(row["round"], row["arm"], row["phase"], row["seeds"], suites)

    def as_row(self) -> dict[str, Any]:
        """JSON values, as the manifest holds them."""
        return {**vars(self), "suites": {name: accuracy.as_row() for name, accuracy in self.suites.items()}}


def summarise(rows: Sequence[dict[str, Any]]) -> list[PhaseScores]:
    """One line per round, arm and phase, in the order of the exams.

    rows: {round, arm, seed, phase, suite, n, accuracy, low, high} of each suite of each exam.
    """
    groups = group_by(rows, lambda row: (row["round"], row["arm"], row["phase"]))
    return [
        PhaseScores(number, arm, phase, len({row["seed"] for row in group}), _suites(phase, group))
        for (number, arm, phase), group in groups.items()
    ]


def _suites(phase: str, rows: Sequence[dict[str, Any]]) -> dict[str, Interval]:
    if phase == BEFORE or len({row["seed"] for row in rows}) == 1:
        return {row["suite"]: Interval.from_row(row, "accuracy") for row in rows}
    return {
        suite: shares_over_seeds([row["accuracy"] for row in of_suite], of_suite[0]["n"])
        for suite, of_suite in group_by(rows, lambda row: row["suite"]).items()
    }


def page(recipe: Recipe, lines: Sequence[PhaseScores], exams: Sequence[Artifact]) -> Page:
    """The table of all lines, and the figure of the first round."""
    title = recipe.report.title or f"Learning a handbook and recovering: {recipe.name}"
    caption = "Greedy accuracy in the first round, with 95% interval."
    return Page(title, sentences(lines), [results_table(lines)], marks(lines), caption, exams)


def results_table(lines: Sequence[PhaseScores]) -> Table:
    """A row for each line, a column for each suite."""
    suites = _suite_names(lines)
    header = ["round", "documents:chat", "", "seeds", *(_NAMES.get(name, name) for name in suites)]
    cells = [
        [
            str(line.round) if line.round else "–",
            line.arm,
            line.phase,
            str(line.seeds) if line.round else "–",
            *(percent_interval(line.suites.get(name)) for name in suites),
        ]
        for line in lines
    ]
    about = (
        "Greedy accuracy: mean over seeds with 95% interval (Student's t); before mid-training, of a single seed, and "
        "where all seeds have the same accuracy, with the interval of the questions (Wilson). Handbook: questions in "
        "wordings that were practised on other facts only."
    )
    return Table("Learnt, lost, recovered", header, cells, about)


def marks(lines: Sequence[PhaseScores]) -> list[Dot]:
    """The accuracies of the first round, to be drawn."""
    return [
        Dot(f"{line.arm} {line.phase}", _NAMES.get(name, name), drawable(line.suites[name]))
        for name in _suite_names(lines)
        for line in lines
        if line.round <= 1 and name != "handbook-2" and name in line.suites
    ]


def _suite_names(lines: Sequence[PhaseScores]) -> list[str]:
    return sorted({name for line in lines for name in line.suites})


def sentences(lines: Sequence[PhaseScores]) -> list[str]:
    """A sentence per recovered arm: mean accuracy before, after mid-training and after recovery."""
    means = {
        (line.round, line.arm, line.phase): {name: accuracy.mean for name, accuracy in line.suites.items()}
        for line in lines
    }
    [before] = [scores for (number, _, _), scores in means.items() if number == 0]
    result = []
    for number, arm, phase in means:
        if phase != RECOVERED:
            continue
        phases = [before, means[number, arm, MID_TRAINED], means[number, arm, RECOVERED]]
        parts = [
            f"{_NAMES[suite]} {' → '.join(f'{scores[suite]:.1%}' for scores in phases)}"
            for suite in (f"handbook-{number}", "instructions")
            if all(suite in scores for scores in phases)
        ]
        if "instructions" in before:
            difference = 100 * (phases[2]["instructions"] - before["instructions"])
            parts.append(f"{difference:+.1f} points of instruction following against the start")
        result.append(f"Round {number}, {arm}, before → mid-trained → recovered: {'; '.join(parts)}.")
    return result
