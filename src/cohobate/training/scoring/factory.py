"""The scorer of a training stage: a model in this process, or a server."""

from __future__ import annotations

from pathlib import Path

from cohobate.config import ObjectiveStage, Recipe, Training
from cohobate.models.loading import LoadedModel, load, outline, refuse_mismatch
from cohobate.models.precision import half_products
from cohobate.models.privileged import format_of_scoring
from cohobate.teachers.endpoint.scoring_checks import require_scores
from cohobate.training.distributed import World
from cohobate.training.moving_average import MovingAverage, copy_of
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import TeacherScorer
from cohobate.training.scoring.cross_tokenizer import SpanScorer, refuse_other_text
from cohobate.training.scoring.local import LocalScorer
from cohobate.training.scoring.server import ServerScorer


def scoring_teacher(recipe: Recipe, config: ObjectiveStage, student: LoadedModel, world: World) -> LoadedModel | None:
    """The teacher that scores for a stage with the settings `config`; None where a server scores.

    With `teacher.follow` it is a copy of `student`, which must not have learnt yet nor have adapters.

    Raises ModelError or UserError when it cannot score what `student` writes.
    """
    if recipe.teacher.follow is not None:
        return copy_of(student)
    if not recipe.teacher.scores_by_server:
        teacher = load(recipe.teacher.model, device=recipe.runtime.device, template=recipe.teacher.template)
        if config.by_spans:
            refuse_other_text(teacher.tokenizer)
        else:
            refuse_mismatch(teacher, student)
        return teacher
    if recipe.teacher.is_folder:
        refuse_mismatch(outline(recipe.teacher.model), student)
    if world.first:
        require_scores(recipe, student)
    return None


def average_of(recipe: Recipe, teacher: LoadedModel | None) -> MovingAverage | None:
    """What moves `teacher` after each update, where it follows the student."""
    return MovingAverage(teacher.model, recipe.teacher.follow) if teacher and recipe.teacher.follow else None


def build_scorer(
    recipe: Recipe,
    config: Training,
    teacher: LoadedModel | None,
    student: LoadedModel,
    needs: TeacherNeeds,
    folder: Path,
    world: World,
) -> TeacherScorer:
    """The scorer by `teacher`, as `scoring_teacher` gives it; its scores are saved in `folder`."""
    budget, prompt_format = config.tokens_per_batch, format_of_scoring(recipe, student.tokenizer)
    if teacher is None:
        return ServerScorer(recipe, student, needs, folder, budget, world)
    keeps, half = config.keep_scores, half_products(config.precision, student.device)
    if needs.spans:
        return SpanScorer(teacher, student, prompt_format, folder, budget, world, keeps=keeps, half=half)
    return LocalScorer(teacher, prompt_format, needs, folder, budget, world, keeps=keeps, half=half)
