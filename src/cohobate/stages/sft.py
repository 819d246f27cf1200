"""SFT: the student learns the selected triples -> model/, metrics.parquet, points.parquet."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.config.load import changed
from cohobate.core.errors import SelectionError
from cohobate.models.loading import model_fingerprint
from cohobate.stages.curation import selected
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.models.loading import LoadedModel
    from cohobate.models.sequence import TrainingSequence
    from cohobate.models.token_loss import Objective
    from cohobate.training.distributed import World
    from cohobate.training.types import Source

VERSION = 2


def train(recipe: Recipe, triples: Artifact, questions: Artifact, start: Artifact | None = None) -> Artifact:
    """Fine-tune the student on `triples`, or on what the recipe's section [curation] keeps of them.

    The questions' validation split gives the evaluation points. start: a training stage's artifact, whose student goes
    on learning in place of the recipe's.
    """
    triples = selected(recipe, triples)
    if start is not None:
        where = f"recipe {recipe.name}, from {start.id}"
        recipe = changed(recipe, {"student": {"model": str(start.path / "model")}}, where)
    student = {**recipe.student.identity(), "model": model_fingerprint(recipe.student.model)}
    return Store().produce(
        "sft",
        recipe=recipe,
        version=VERSION,
        identity={**recipe.sft.identity(), "student": student, **_teacher_identity(recipe)},
        parents=[triples, questions, *([start] if start else [])],
        build=lambda workspace: build(recipe, triples, questions, workspace),
    )


def build(recipe: Recipe, triples: Artifact, questions: Artifact, workspace: Workspace) -> Outcome:
    """What every process of the stage does; the first one's outcome counts."""
    from cohobate.stages import RANK_MODULE
    from cohobate.teachers.vllm.server import scoring_server
    from cohobate.training.distributed import together

    served = recipe.teacher.scores_by_server and recipe.sft.asks_teacher and recipe.sft.steps
    with (
        scoring_server(recipe) if served else nullcontext(recipe) as addressed,
        together(addressed, [triples, questions], workspace, "sft", RANK_MODULE) as world,
    ):
        return _build(addressed, triples, questions, workspace, world)


def _build(recipe: Recipe, triples: Artifact, questions: Artifact, workspace: Workspace, world: World) -> Outcome:
    from cohobate.models.chat_template import student_format
    from cohobate.models.loading import load
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.stages.preflight import require
    from cohobate.stages.training import train_and_publish
    from cohobate.training.objectives.sft import cross_entropy
    from cohobate.training.trainee import Trainee
    from cohobate.training.triple_source import TripleSource, select, training_rows

    prepare_torch(recipe.runtime)
    if world.first:
        require(recipe)
    student = load(recipe.student.model, device=recipe.runtime.device, train=True)
    chosen = select(triples.path, recipe.sft.select)
    if recipe.sft.steps and chosen.is_empty():
        raise SelectionError(
            f"{triples.id} has no triple for sft.select = '{recipe.sft.select}', so there is nothing to learn; look "
            f"at them with `cohobate show {triples.id}`, or set sft.select = 'all'"
        )
    rows = training_rows(student.tokenizer, chosen, student_format(recipe))
    source: Source = TripleSource(rows, recipe.sft.batch, recipe.sft.seed, world)
    objective: Objective = cross_entropy
    if recipe.sft.objective == "logit_kd" and recipe.sft.steps:
        source, objective = _from_teacher(recipe, student, rows, chosen["question"].to_list(), workspace, world)
    trainee = Trainee(student, recipe.sft, recipe.student.model, world, shard=recipe.runtime.shard)
    outcome = train_and_publish(recipe, "sft", trainee, source, objective, questions, workspace)
    return replace(outcome, metrics={**outcome.metrics, "triples": len(chosen)})


def _teacher_identity(recipe: Recipe) -> dict[str, Any]:
    """Who scores the tokens, where anybody does."""
    from cohobate.teachers.base import teacher_fingerprint

    if recipe.sft.objective == "cross_entropy":
        return {}
    return {"teacher": {**recipe.teacher.identity(), "model": teacher_fingerprint(recipe.teacher)}}


def _from_teacher(
    recipe: Recipe,
    student: LoadedModel,
    rows: list[TrainingSequence],
    questions: list[str],
    workspace: Workspace,
    world: World,
) -> tuple[Source, Objective]:
    """Batches with the teacher's distributions, and logit distillation from them."""
    from cohobate.training.objectives.distributions import FullVocabulary, View, top_k_and_tail
    from cohobate.training.objectives.logit_kd import LogitDistillation
    from cohobate.training.scored_source import ScoredTripleSource
    from cohobate.training.scoring.base import TeacherNeeds
    from cohobate.training.scoring.factory import build_scorer, scoring_teacher

    config, own = recipe.sft, recipe.sft.logit_kd
    teacher = scoring_teacher(recipe, config, student, world)
    needs = TeacherNeeds(hidden=own.top_k is None, top_k=own.top_k)
    scorer = build_scorer(recipe, config, teacher, student, needs, workspace.scratch / "scores", world)
    source = ScoredTripleSource(rows, questions, scorer, config.batch, config.seed, "sft")
    view: View = top_k_and_tail
    if teacher is not None and own.top_k is None:
        view = FullVocabulary(teacher.model.get_output_embeddings())
    return source, LogitDistillation(view, own.temperature, own.alpha)
