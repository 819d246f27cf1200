"""The page of the single-prompt experiment: means over seeds, sentences, the table and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe, Single
from cohobate.core.formatting import percent, percent_interval
from cohobate.core.statistics import Interval, shares_over_seeds
from cohobate.experiments.grouping import group_by
from cohobate.experiments.single_prompt.arms import DECODINGS, START
from cohobate.report.experiment import Dot, Page, Table
from cohobate.store.artifacts import Artifact


@dataclass(frozen=True)
class DecodingScores:
    """Scores of an arm by one decoding, over seeds; those of the start have the interval of their questions.

    with_rationale: share of answers with a rationale. correct_with_rationale: share of those that are correct, None
    where there are none.
    """

    accuracy: Interval
    with_rationale: float | None
    correct_with_rationale: float | None

    def as_row(self) -> dict[str, float | None]:
        """JSON values, as the manifest holds them."""
        shares = {"worked_out": self.with_rationale, "right_of_worked_out": self.correct_with_rationale}
        return {**self.accuracy.as_row(), **shares}


@dataclass(frozen=True)
class ArmSummary:
    """An arm over its seeds: scores by decoding, loss of the first and last step, tokens per greedy answer."""

    arm: str
    seeds: int
    scores: dict[str, DecodingScores]
    first_loss: float | None
    last_loss: float | None
    mean_tokens: float | None

    def as_row(self) -> dict[str, Any]:
        """JSON values, as the manifest holds them."""
        values = {name: value for name, value in vars(self).items() if name != "scores"}
        return {**values, **{decoding: scores.as_row() for decoding, scores in self.scores.items()}}


def summarise(rows: Sequence[dict[str, Any]]) -> list[ArmSummary]:
    """One summary per arm, in the order of `rows`: those of scores.parquet, one per arm, seed and decoding."""
    summaries = []
    for arm, of_arm in group_by(rows, lambda row: row["arm"]).items():
        by_decoding = group_by(of_arm, lambda row: row["decoding"])
        greedy = by_decoding["greedy"]
        summaries.append(
            ArmSummary(
                arm,
                len(greedy),
                {decoding: _scores(arm, by_decoding[decoding]) for decoding in DECODINGS},
                _mean([row["first_loss"] for row in greedy]),
                _mean([row["last_loss"] for row in greedy]),
                _mean([row["mean_tokens"] for row in greedy]),
            )
        )
    return summaries


def _scores(arm: str, rows: Sequence[dict[str, Any]]) -> DecodingScores:
    # The start is trained once: its interval is that of its questions.
    first, accuracies = Interval.from_row(rows[0], "accuracy"), [row["accuracy"] for row in rows]
    with_rationale, correct = (_mean([row[name] for row in rows]) for name in ("worked_out", "right_of_worked_out"))
    return DecodingScores(
        first if arm == START else shares_over_seeds(accuracies, rows[0]["n"]), with_rationale, correct
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None if all are."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def page(recipe: Recipe, prompt: Artifact, arms: Sequence[ArmSummary], artifacts: Sequence[Artifact]) -> Page:
    """The table and figure of all arms; `prompt` is the artifact of the one prompt."""
    header = [
        *("arm", "seeds", *DECODINGS),
        *("with chain of thought", "correct of those", "loss", "tokens per answer"),
    ]
    dots = [
        Dot(arm.arm, decoding, arm.scores[decoding].accuracy)
        for decoding in DECODINGS
        for arm in arms
        if arm.scores[decoding].accuracy.bounded
    ]
    about = (
        "Mean over seeds with 95% interval (Student's t); for the start that of the questions (Wilson). With chain of "
        "thought: share of answers with a rationale, and of those the share that is correct; greedy / sampled. Loss: "
        "first and last step in nats per token, reverse KL of OPD on its rollouts, cross-entropy of SFT."
    )
    return Page(
        recipe.report.title or f"One prompt, many samples: {recipe.name}",
        _sentences(recipe.section(Single), str(prompt.manifest.named_metrics["question"]), arms),
        [Table("Held-out accuracy", header, [_cells(arm) for arm in arms], about)],
        dots,
        "Accuracy on held-out questions, with 95% interval.",
        artifacts,
    )


def _cells(arm: ArmSummary) -> list[str]:
    scores = [arm.scores[decoding] for decoding in DECODINGS]
    loss = "" if arm.first_loss is None else f"{arm.first_loss:.2f} to {arm.last_loss:.3f}"
    return [
        *(arm.arm, str(arm.seeds), *(percent_interval(each.accuracy) for each in scores)),
        " / ".join(percent(each.with_rationale) for each in scores),
        " / ".join(percent(each.correct_with_rationale) for each in scores),
        *(loss, f"{arm.mean_tokens:.1f}"),
    ]


def _sentences(config: Single, question: str, arms: Sequence[ArmSummary]) -> list[str]:
    means = {arm.arm: arm.scores["greedy"].accuracy.mean for arm in arms}
    gains = [f"{arm} {mean:.1%} ({100 * (mean - means[START]):+.1f} points)" for arm, mean in means.items()]
    bare = (
        f"Of {config.bare:.0%} of its triples the start has learnt the answer only; the teacher of the arms always "
        "answers with a chain of thought."
    )
    return [
        f"The one prompt is: {question} Each arm makes {config.steps} steps of {config.rollouts} sequences from the "
        "same start.",
        *([bare] if config.bare else []),
        f"Held-out questions, greedy: the start {means[START]:.1%}; {'; '.join(gains[1:])}.",
    ]
