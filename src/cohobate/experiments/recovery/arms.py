"""The arms of the experiment: a share of documents, a seed, with or without adapters; and the recipe of each."""

from __future__ import annotations

from dataclasses import dataclass

from cohobate.config import Adapters, Recipe, Recover, Student, Teacher
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError


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


def checked_section(recipe: Recipe) -> Recover:
    """The recipe's [recover]. Raises RecipeError without one, or where OPD does not learn from the earlier checkpoint,
    or where the adapters' changes make no recipe.
    """
    config = recipe.section(Recover)
    if not recipe.opd.asks_teacher or recipe.opd.uses_triples:
        raise RecipeError("recovery learns from the earlier checkpoint's scores of rollouts; set opd.objective")
    if config.lora is not None:
        _adapted(recipe, config.lora)
    return config


def _adapted(recipe: Recipe, adapters: Adapters) -> Recipe:
    """The recipe of the arm with adapters. Raises RecipeError when its changes make none, or one without adapters."""
    where = f"recipe {recipe.name}, recover.lora"
    chosen = changed(recipe, {"sft": adapters.sft, "opd": adapters.opd}, where)
    for name in ("sft", "opd"):
        if getattr(chosen, name).lora is None:
            raise RecipeError(f"{where}.{name} has no adapters; add lora = {{rank = 16, alpha = 32}}")
    return chosen


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
    config = checked_section(recipe)
    model = earlier or recipe.student.model
    chosen = _adapted(recipe, config.lora) if arm.lora and config.lora else recipe
    # Teacher and student are one model, so they read the same prompt.
    asked = {"prompt": recipe.student.prompt, "system": recipe.student.system}
    changes = {
        "sft": {"seed": arm.seed},
        "opd": {"seed": arm.seed},
        "student": Student(model=model, **asked),
        "teacher": Teacher(model=model, **asked),
    }
    return changed(chosen, changes, f"recipe {recipe.name}, arm {arm.name}")


def _again(config: Recover) -> float:
    return config.documents[0] if config.again is None else config.again
