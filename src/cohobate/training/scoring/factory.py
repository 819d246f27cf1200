"""The scorer of a training stage: a model in this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cohobate.config import ObjectiveStage, Recipe, Training
from cohobate.models.loading import LoadedModel, load, outline, refuse_mismatch
from cohobate.models.output_layer import OutputLayer
from cohobate.models.precision import half_products
from cohobate.models.privileged import format_of_scoring
from cohobate.models.token_loss import Head
from cohobate.teachers.endpoint.scoring_checks import require_scores
from cohobate.training.distributed import World
from cohobate.training.moving_average import MovingAverage, copy_of
from cohobate.training.objectives.base import TeacherNeeds
from cohobate.training.scoring.base import Scorer, TeacherScorer
from cohobate.training.scoring.cross_tokenizer import SpanScorer, refuse_other_text
from cohobate.training.scoring.local import LocalScorer
from cohobate.training.scoring.server import ServerScorer
from cohobate.training.scoring.several import MixedHead, MixtureScorer, RoutedScorer


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


def scoring_teachers(
    recipe: Recipe, config: ObjectiveStage, student: LoadedModel, world: World
) -> dict[str, LoadedModel | None]:
    """What `scoring_teacher` gives for each of the recipe's teachers that scores, by name."""
    return {name: scoring_teacher(own, config, student, world) for name, own in recipe.scoring_teachers.items()}


def head_of(recipe: Recipe, teachers: Mapping[str, LoadedModel | None], student: LoadedModel) -> Head:
    """What makes logits of the hidden states that `build_scorers` gives; without any, that of the student."""
    here = [each for each in teachers.values() if each is not None]
    if not recipe.teachers or len(here) < len(teachers) or not here:
        return OutputLayer((here[0] if here else student).model)
    shares = _shares(recipe)
    return MixedHead(here, [shares[name] for name in teachers] if shares else None)


def _shares(recipe: Recipe) -> dict[str, float]:
    """The weights of opd.mixture; thirds that people have rounded add up to 1 again."""
    mixed = recipe.opd.mixture
    return {name: share / sum(mixed.values()) for name, share in mixed.items()}


def build_scorers(
    recipe: Recipe,
    config: ObjectiveStage,
    teachers: Mapping[str, LoadedModel | None],
    student: LoadedModel,
    needs: TeacherNeeds,
    folder: Path,
    world: World,
    head: Head,
) -> Scorer:
    """The scorer by `teachers`, as `scoring_teachers` gives them; head: of `head_of`."""
    recipes = recipe.scoring_teachers
    if not recipe.teachers:
        [name] = teachers
        return build_scorer(recipe, config, teachers[name], student, needs, folder, world)
    mixed, states = _shares(recipe), head if isinstance(head, MixedHead) else None
    beyond_tokens = needs.hidden or needs.ghosts or needs.top_k is not None
    own_needs = TeacherNeeds(hidden=beyond_tokens) if mixed else needs
    scorers = {
        name: build_scorer(recipes[name], config, teacher, student, own_needs, folder / name, world)
        for name, teacher in teachers.items()
    }
    labels = {name: recipe.label(name) for name in scorers}
    return MixtureScorer(scorers, labels, states, needs, mixed) if mixed else RoutedScorer(scorers, labels, states)


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
