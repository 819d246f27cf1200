"""The arms of the experiment: a share of documents, a seed, with or without adapters; and the recipe of each."""

from __future__ import annotations

from dataclasses import dataclass

from cohobate.config import Recipe, Recover, Student, Teacher
from cohobate.errors import RecipeError


@dataclass(frozen=True)
class Arm:
    """One run of mid-training and recovery."""

    documents: float
    seed: int
    lora: bool = False

    @property
    def name(self) -> str:
        """documents:chat, such as `70:30` or `70:30 LoRA`."""
        share = round(100 * self.documents)
        return f"{share}:{100 - share}{' LoRA' if self.lora else ''}"


def section(recipe: Recipe) -> Recover:
    """The recipe's [recover]. Raises RecipeError without one, or with an OPD that does not ask the earlier self."""
    if recipe.recover is None:
        raise RecipeError(f"recipe {recipe.name} has no section [recover]; add one, or take the recipe handbook")
    if not recipe.opd.asks_teacher or recipe.opd.uses_triples:
        raise RecipeError("recovery learns from what the earlier self says to rollouts; set opd.objective = 'exact'")
    return recipe.recover


def arms(config: Recover) -> list[Arm]:
    """The arms of the first round, seed by seed, so that what is there after an interruption compares."""
    chosen = [Arm(share, seed) for seed in range(config.seeds) for share in config.documents]
    if config.lora is not None:
        chosen += [Arm(_again(config), seed, lora=True) for seed in range(config.seeds)]
    return chosen


def second_round(config: Recover) -> list[Arm]:
    """The arms that go on to the second handbook."""
    if config.again is None or len(config.handbooks) < 2:
        return []
    return [Arm(config.again, seed) for seed in range(config.seeds)]


def of_arm(recipe: Recipe, arm: Arm, earlier: str | None = None) -> Recipe:
    """The recipe of an arm: its seed and adapters; `earlier` is the model that teaches, else the recipe's student."""
    config = section(recipe)
    model = earlier or recipe.student.model
    own = {"seed": arm.seed, "lora": config.lora if arm.lora else None}
    # Teacher and student are one model, so they read the same prompt.
    asked = {"prompt": recipe.student.prompt, "system": recipe.student.system}
    return recipe.model_copy(
        update={
            "sft": recipe.sft.model_copy(update=own),
            "opd": recipe.opd.model_copy(update=own),
            "student": Student(model=model, **asked),
            "teacher": Teacher(model=model, **asked),
        }
    )


def _again(config: Recover) -> float:
    return config.documents[0] if config.again is None else config.again
