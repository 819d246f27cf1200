"""The arms of the single-prompt experiment, the recipe of each, and means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe, Single
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError
from cohobate.core.statistics import Interval, over_seeds
from cohobate.store.artifacts import Artifact

START, ONE, MANY, SFT = "start (SFT)", "OPD, one prompt", "OPD, many prompts", "SFT, one prompt"
DECODINGS = ("greedy", "sampled")
PARTS = ("worked_out", "right_of_worked_out")
"""Of each decoding: the share of the answers that hold a rationale, and how many of those are right."""
OF_GREEDY = ("first_loss", "last_loss", "mean_tokens")
"""The loss of the first and of the last step, and tokens an answer."""


@dataclass(frozen=True)
class Scored:
    """Where an exam stands in the table, and the student who took it."""

    arm: str
    seed: int
    exam: Artifact
    model: Artifact


def sft_arm(config: Single, lr: float) -> str:
    """The name of SFT at one of its rates."""
    return SFT if len(config.sft_lr) == 1 else f"{SFT}, rate {lr:g}"


def order(config: Single) -> list[str]:
    """The arms as the table lists them."""
    return [START, ONE, MANY, *(sft_arm(config, lr) for lr in config.sft_lr)]


def checked_section(recipe: Recipe) -> Single:
    """The recipe's [single]. Raises RecipeError without one, or where one of the arms cannot be trained with it."""
    config = recipe.section(Single)
    if not recipe.opd.asks_teacher or recipe.opd.uses_triples:
        raise RecipeError("the single prompt is learnt from the teacher's scores of rollouts; set opd.objective")
    if recipe.opd.is_rewarded:
        raise RecipeError(
            f"opd.objective = '{recipe.opd.objective}' compares rollouts of a prompt, but the arm with many prompts "
            "has one rollout of each; set another opd.objective"
        )
    for one in (True, False):
        on_policy(recipe, 0, one=one)
    on_answers(recipe, 0)
    return config


def on_policy(recipe: Recipe, seed: int, *, one: bool) -> Recipe:
    """OPD with all rollouts of a step on one prompt, or one on each of as many."""
    config = recipe.section(Single)
    prompts, group = (1, config.rollouts) if one else (config.rollouts, 1)
    own: dict[str, float] = {"prompts": prompts, "group": group, "seed": seed}
    own |= _schedule(recipe.opd.warmup, config, config.lr)
    return changed(recipe, {"opd": own}, f"recipe {recipe.name}, {ONE if one else MANY}")


def on_answers(recipe: Recipe, seed: int, start: Artifact | None = None, lr: float | None = None) -> Recipe:
    """SFT on the teacher's answers to the one prompt: as many of them as a step has rollouts, from `start` on.

    lr: one of `sft_lr`; None: the first, since the answers are the same.
    """
    config = recipe.section(Single)
    own: dict[str, Any] = {
        "batch": config.rollouts,
        "select": "all",
        "seed": seed,
        **_schedule(recipe.sft.warmup, config, lr or config.sft_lr[0]),
    }
    triples = {"samples": config.rollouts, "temperature": 1.0, "seed": seed}
    model = {"model": str(start.path / "model")} if start else {}
    changes = {"triples": triples, "sft": own, "student": model, "curation": None}
    return changed(recipe, changes, f"recipe {recipe.name}, {SFT}")


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per arm: {arm, seeds, greedy, sampled: {mean, low, high, means of `PARTS`}, means of `OF_GREEDY`}."""
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        line: dict[str, Any] = {"arm": arm}
        for decoding in DECODINGS:
            chosen = [row for row in rows if (row["arm"], row["decoding"]) == (arm, decoding)]
            accuracy = over_seeds([row["accuracy"] for row in chosen])
            if arm == START:  # trained once: its interval is that of its questions
                accuracy = Interval.from_row(chosen[0], "accuracy")
            line[decoding] = accuracy.as_row() | {part: _mean([row[part] for row in chosen]) for part in PARTS}
            line["seeds"] = len(chosen)
        greedy = [row for row in rows if (row["arm"], row["decoding"]) == (arm, "greedy")]
        lines.append({**line, **{name: _mean([row[name] for row in greedy]) for name in OF_GREEDY}})
    return lines


def _mean(values: Sequence[float | None]) -> float | None:
    """Of the known ones."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _schedule(warmup: int, config: Single, lr: float) -> dict[str, float]:
    """The arms' own number of steps and rate, with a warm-up that fits and nothing measured on the way."""
    return {
        "steps": config.steps,
        "lr": lr,
        "warmup": min(warmup, config.steps),
        "evaluate_every": config.steps,
    }
