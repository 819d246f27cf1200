"""SFT: the student learns the selected triples -> model/, metrics.parquet, points.parquet."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.config.load import changed
from cohobate.core.errors import SelectionError
from cohobate.models.loading import logits_revision, model_fingerprint, pair_revision, rendering_revision
from cohobate.stages.curation import selected
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from cohobate.models.loading import LoadedModel
    from cohobate.training.distributed import World
    from cohobate.training.objectives.preference import GivenPreference
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
    name = recipe.student.model
    student = {
        **recipe.student.identity(),
        "model": model_fingerprint(name),
        **logits_revision(name),
        **pair_revision(recipe),
        **rendering_revision(recipe),
    }
    return Store().produce(
        "sft",
        recipe=recipe,
        version=VERSION,
        identity={**recipe.sft.identity(), "student": student, **_teacher_identity(recipe)},
        parents=[triples, questions, *([start] if start else [])],
        build=lambda workspace: build(recipe, triples, questions, workspace),
    )


def build(recipe: Recipe, triples: Artifact, questions: Artifact, workspace: Workspace) -> Outcome:
    """Build the stage in one of its processes; the outcome of the first one counts."""
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
    from cohobate.models.chat_template import prompt_opening, student_format
    from cohobate.models.context_room import fitting_rows
    from cohobate.models.loading import load, with_ends
    from cohobate.models.output_layer import OutputLayer
    from cohobate.models.privileged import Shown
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.stages.preflight import require
    from cohobate.stages.training import train_and_publish
    from cohobate.training.objectives.base import off_policy
    from cohobate.training.objectives.preference import GivenPreference
    from cohobate.training.samplers import Samplers
    from cohobate.training.scored_source import ScoredTripleSource, scorable
    from cohobate.training.scoring.factory import average_of, build_scorer, scoring_teacher
    from cohobate.training.trainee import Trainee
    from cohobate.training.triple_source import TripleSource, select, taught_turns, training_sequences

    config, objective = recipe.sft, off_policy(recipe.sft)
    prepare_torch(recipe.runtime)
    if world.first:
        require(recipe)
    own = load(recipe.student.model, device=recipe.runtime.device, train=True, template=recipe.student.template)
    student = with_ends(own, recipe)
    if isinstance(objective, GivenPreference):
        return _prefer(recipe, objective, triples, questions, student, workspace, world)
    prompt_format = student_format(recipe)
    chosen = select(triples.path, config.select, prompt_opening(student.tokenizer, prompt_format))
    if config.steps and chosen.is_empty():
        raise SelectionError(
            f"{triples.id} has no triple for sft.select = '{config.select}', so there is nothing to learn; look "
            f"at them with `cohobate show {triples.id}`, or set sft.select = 'all'"
        )
    scores = objective.needs is not None and config.steps
    shown = Shown.of(recipe) if scores else Shown()
    chosen = shown.triples_with_values("sft", chosen, questions.path)
    turns = taught_turns(chosen, prompt_format, config.turns)
    # With a privileged context the turns are the triples, one each.
    shown_queries = [turn.question for turn in turns] if shown.context is None else shown.queries(chosen)
    rows = training_sequences(student.tokenizer, turns, prompt_format, student.end)
    keep = fitting_rows("sft", rows, student)
    if config.steps and rows and not any(keep):
        raise SelectionError(
            "every triple is longer than the student's context; ask for shorter responses (triples.max_tokens), or "
            "choose a student with a longer context"
        )
    rows, shown_queries = list(compress(rows, keep)), list(compress(shown_queries, keep))
    source: Source = TripleSource(rows, config.batch, config.seed, world)
    teacher = None
    if scores and objective.needs is not None:
        teacher = scoring_teacher(recipe, config, student, world)
        scorer = build_scorer(recipe, config, teacher, student, objective.needs, workspace.scratch / "scores", world)
        keep = scorable("sft", rows, shown_queries, scorer)
        rows, shown_queries = list(compress(rows, keep)), list(compress(shown_queries, keep))
        source = ScoredTripleSource(rows, shown_queries, scorer, config.batch, config.seed, "sft")
    loss = objective.loss(OutputLayer((teacher or student).model))
    average = average_of(recipe, teacher)
    trainee = Trainee(student, config, recipe.student.model, world, shard=recipe.runtime.shard, average=average)
    with closing(Samplers.of(recipe, trainee)) as samplers:
        outcome = train_and_publish(recipe, "sft", trainee, source, loss, questions, samplers.points, workspace)
    return replace(outcome, metrics={**outcome.metrics, "triples": len(chosen)})


def _prefer(
    recipe: Recipe,
    objective: GivenPreference[Any],
    triples: Artifact,
    questions: Artifact,
    student: LoadedModel,
    workspace: Workspace,
    world: World,
) -> Outcome:
    """Learn right responses over wrong ones."""
    from cohobate.models.chat_template import student_format
    from cohobate.models.context_room import fitting_rows
    from cohobate.stages.training import train_and_publish
    from cohobate.training.preference_source import PreferenceSource
    from cohobate.training.samplers import Samplers
    from cohobate.training.trainee import Trainee
    from cohobate.training.triple_source import judged_responses

    config, in_pairs = recipe.sft, objective.comparison.in_pairs
    judged = judged_responses(
        triples.path, config.select, student.tokenizer, student_format(recipe), student.end, in_pairs=in_pairs
    )
    keep = fitting_rows("sft", [item.sequence for item in judged], student)
    if in_pairs:  # a pair of which one side is too long is none
        keep = [both for one, other in zip(keep[0::2], keep[1::2], strict=True) for both in [one and other] * 2]
    judged = list(compress(judged, keep))
    if config.steps and not judged:
        needed = "a right and a wrong response to one question" if in_pairs else "a response with a verdict"
        raise SelectionError(
            f"{triples.id} has nowhere {needed} that fits into the student's context, and sft.objective = "
            f"'{config.objective}' learns from these; raise triples.samples, or choose another objective"
        )
    trainee = Trainee(student, config, recipe.student.model, world, shard=recipe.runtime.shard)
    source = PreferenceSource(objective, judged, trainee, workspace.scratch / "reference")
    loss = objective.loss(None)
    with closing(Samplers.of(recipe, trainee)) as samplers:
        outcome = train_and_publish(recipe, "sft", trainee, source, loss, questions, samplers.points, workspace)
    return replace(outcome, metrics={**outcome.metrics, "triples": len(judged)})


def _teacher_identity(recipe: Recipe) -> dict[str, Any]:
    """The teacher that scores the tokens, where one does."""
    from cohobate.teachers.base import half_scoring, training_identity

    if not recipe.sft.asks_teacher:
        return {}
    return {"teacher": training_identity(recipe.teacher), **half_scoring(recipe, recipe.sft)}
