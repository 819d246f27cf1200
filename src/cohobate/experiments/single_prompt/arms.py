"""Arms of the single-prompt experiment, and the recipe of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cohobate.config import Recipe, Single
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError
from cohobate.store.artifacts import Artifact

START, ONE, MANY, SFT = "start (SFT)", "OPD, one prompt", "OPD, many prompts", "SFT, one prompt"
DECODINGS = ("greedy", "sampled")


@dataclass(frozen=True)
class ArmExam:
    """An exam and its place in the table, and the student that was examined."""

    arm: str
    seed: int
    exam: Artifact
    model: Artifact


def sft_arm(config: Single, lr: float) -> str:
    """The name of SFT at one of its learning rates; names are part of the identity of the table."""
    return SFT if len(config.sft_lr) == 1 else f"{SFT}, rate {lr:g}"


def order(config: Single) -> list[str]:
    """The arms in the order of the table."""
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
    """OPD with all rollouts of a step on one prompt, or on as many prompts with one rollout each."""
    config = recipe.section(Single)
    prompts, group = (1, config.rollouts) if one else (config.rollouts, 1)
    own: dict[str, float] = {"prompts": prompts, "group": group, "seed": seed}
    own |= _schedule(recipe.opd.warmup, config, config.lr)
    return changed(recipe, {"opd": own}, f"recipe {recipe.name}, {ONE if one else MANY}")


def on_answers(recipe: Recipe, seed: int, start: Artifact | None = None, lr: float | None = None) -> Recipe:
    """SFT from `start` on the teacher's answers to the one prompt, as many per step as OPD has rollouts.

    lr: one of `sft_lr`; None: the first, for stages that no learning rate changes.
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


def _schedule(warmup: int, config: Single, lr: float) -> dict[str, float]:
    """Settings that all arms share: steps and learning rate, warm-up within the steps, no evaluation before the end."""
    return {
        "steps": config.steps,
        "lr": lr,
        "warmup": min(warmup, config.steps),
        "evaluate_every": config.steps,
    }
