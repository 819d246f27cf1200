"""Arms of the recovery experiment: share of documents, seed, with or without adapters; and the recipe of each."""

from __future__ import annotations

from dataclasses import dataclass

from cohobate.config import Adapters, Recipe, Recover, Student, Teacher
from cohobate.config.load import changed
from cohobate.core.errors import RecipeError
from cohobate.store.artifacts import Artifact
from cohobate.training.objectives.preference import Preference

BEFORE, MID_TRAINED, RECOVERED = "before", "mid-trained", "recovered"
"""Phases in which a student is examined."""


@dataclass(frozen=True)
class Arm:
    """One run of mid-training and recovery. documents: share of a batch's sequences that is from the handbook."""

    documents: float
    seed: int
    lora: bool = False

    @property
    def name(self) -> str:
        """documents:chat, such as `70:30` or `70:30 LoRA`."""
        share = round(100 * self.documents)
        return f"{share}:{100 - share}{' LoRA' if self.lora else ''}"


@dataclass(frozen=True)
class ArmExam:
    """An exam and its place in the table. round: 0 before any mid-training."""

    round: int
    arm: str
    seed: int
    phase: str
    exam: Artifact


def checked_section(recipe: Recipe) -> Recover:
    """The recipe's [recover].

    Raises RecipeError without one, when OPD needs no teacher's scores of rollouts, when SFT needs scores or verdicts,
    or when the adapters' changes are invalid.
    """
    config = recipe.section(Recover)
    if not recipe.opd.asks_teacher or recipe.opd.uses_triples:
        raise RecipeError("recovery learns from the reference checkpoint's scores of rollouts; set opd.objective")
    if recipe.sft.asks_teacher or isinstance(recipe.sft.declared, Preference):
        raise RecipeError("mid-training learns documents, which nobody scores or judges; set sft.objective")
    if config.lora is not None:
        _with_adapters(recipe, config.lora)
    return config


def _with_adapters(recipe: Recipe, adapters: Adapters) -> Recipe:
    """The recipe of the arm with adapters. Raises RecipeError when its changes are invalid or add no adapters."""
    where = f"recipe {recipe.name}, recover.lora"
    chosen = changed(recipe, {"sft": adapters.sft, "opd": adapters.opd}, where)
    for name in ("sft", "opd"):
        if getattr(chosen, name).lora is None:
            raise RecipeError(f"{where}.{name} has no adapters; add lora = {{rank = 16, alpha = 32}}")
    return chosen


def arms(config: Recover) -> list[Arm]:
    """The arms of the first round, seed by seed, so that an interrupted experiment has whole seeds to compare."""
    chosen = [Arm(share, seed) for seed in range(config.seeds) for share in config.documents]
    if config.lora is not None:
        chosen += [Arm(_second_round_share(config), seed, lora=True) for seed in range(config.seeds)]
    return chosen


def second_round(config: Recover) -> list[Arm]:
    """The arms that learn the second handbook too."""
    if config.again is None or len(config.handbooks) < 2:
        return []
    return [Arm(config.again, seed) for seed in range(config.seeds)]


def of_arm(recipe: Recipe, arm: Arm, reference: str | None = None) -> Recipe:
    """The recipe of an arm: its seed and adapters, and the model `reference`, else the recipe's student, as teacher."""
    config = checked_section(recipe)
    model = reference or recipe.student.model
    chosen = _with_adapters(recipe, config.lora) if arm.lora and config.lora else recipe
    # Teacher and student are one model, so they read the same prompt.
    prompt = {"prompt": recipe.student.prompt, "system": recipe.student.system}
    changes = {
        "sft": {"seed": arm.seed},
        "opd": {"seed": arm.seed},
        "student": Student(model=model, **prompt),
        "teacher": Teacher(model=model, **prompt),
    }
    return changed(chosen, changes, f"recipe {recipe.name}, arm {arm.name}")


def _second_round_share(config: Recover) -> float:
    return config.documents[0] if config.again is None else config.again
