"""OPD: the student learns from its own rollouts -> model/ and rollouts, metrics, points.parquet."""

from __future__ import annotations

from contextlib import closing
from itertools import compress
from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.core import progress
from cohobate.core.answer_forms import form_identity
from cohobate.core.errors import QuestionsError, SelectionError
from cohobate.evaluation.verifiers import verify
from cohobate.stages.curation import selected
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import polars as pl

    from cohobate.models.loading import LoadedModel
    from cohobate.training.distributed import World
    from cohobate.training.rollout_log import RolloutLog
    from cohobate.training.samplers import Sampler
    from cohobate.training.scoring.base import Scorer
    from cohobate.training.trainee import Trainee
    from cohobate.training.types import Source

VERSION = 2


def train(recipe: Recipe, start: Artifact, questions: Artifact, triples: Artifact) -> Artifact:
    """Train the student that `start` ended with on its own rollouts of the fresh split of `questions`.

    Some objectives learn from `triples` too (see `Opd.uses_triples`); for the others these are no parent.
    """
    if recipe.opd.uses_triples:
        triples = selected(recipe, triples)
    parents = [start, questions, *([triples] if recipe.opd.uses_triples else [])]
    return Store().produce(
        "opd",
        recipe=recipe,
        version=VERSION,
        identity=_identity(recipe),
        parents=parents,
        build=lambda workspace: build(recipe, start, questions, triples, workspace),
    )


def _identity(recipe: Recipe) -> dict[str, Any]:
    from cohobate.models.loading import has_dropout, model_path
    from cohobate.models.template_revision import template_revision
    from cohobate.teachers.base import half_scoring, training_identity

    revision = template_revision(model_path(recipe.student.model), recipe.student)
    student = {**recipe.student.identity(), **revision}
    identity = {**recipe.opd.identity(), "student": student}
    if recipe.opd.asks_teacher and not recipe.teachers:
        identity |= {"teacher": training_identity(recipe.teacher), **half_scoring(recipe, recipe.opd)}
    elif recipe.opd.asks_teacher:
        identity["teachers"] = {
            name: {**training_identity(own.teacher), **half_scoring(own, own.opd)}
            for name, own in recipe.scoring_teachers.items()
        }
        if recipe.route is not None and not recipe.opd.mixture:
            identity["route"] = recipe.route.identity()
    if has_dropout(recipe.student.model) or (recipe.opd.lora and recipe.opd.lora.dropout):
        identity["dropout"] = "off"  # which updates before did not have
    if recipe.opd.lora:
        identity["adapters"] = "merged"  # in rollouts, which before had products of their own
    if recipe.opd.is_rewarded or (recipe.opd.asks_teacher and recipe.teacher.shows_feedback):
        identity["verifier"] = {**verify.identity(recipe.triples.verifier), **form_identity(recipe.teacher.answer)}
    return identity


def build(recipe: Recipe, start: Artifact, questions: Artifact, triples: Artifact, workspace: Workspace) -> Outcome:
    """Build the stage in one of its processes; the outcome of the first one counts."""
    from cohobate.stages import RANK_MODULE
    from cohobate.teachers.vllm.server import scoring_servers
    from cohobate.training.distributed import together

    with (
        scoring_servers(recipe, recipe.opd) as addressed,
        together(addressed, [start, questions, triples], workspace, "opd", RANK_MODULE) as world,
    ):
        return _build(addressed, start, questions, triples, workspace, world)


def _build(
    recipe: Recipe, start: Artifact, questions: Artifact, triples: Artifact, workspace: Workspace, world: World
) -> Outcome:
    from cohobate.models.loading import load, with_ends
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.stages.training import train_and_publish
    from cohobate.training.objectives.base import on_policy
    from cohobate.training.objectives.length import LengthPriced
    from cohobate.training.rollout_log import RolloutLog
    from cohobate.training.samplers import Samplers
    from cohobate.training.scoring.factory import average_of, build_scorers, head_of, scoring_teachers
    from cohobate.training.trainee import Trainee

    prepare_torch(recipe.runtime)
    template = recipe.student.template
    loaded = load(start.path / "model", device=recipe.runtime.device, train=True, template=template)
    student = with_ends(loaded, recipe)
    # Without a step no teacher is asked: it may be one behind an endpoint, which cannot be loaded.
    asks = recipe.opd.asks_teacher and recipe.opd.steps
    teachers = scoring_teachers(recipe, recipe.opd, student, world) if asks else {}
    if world.first:
        _require_own_logits(recipe, student, teachers)
    objective, head = on_policy(recipe.opd), head_of(recipe, teachers, student)
    loss = objective.loss(head)
    if recipe.opd.length is not None:
        loss = LengthPriced(loss, recipe.opd.importance_cap)

    def scorer(folder: str) -> Scorer | None:
        if not asks or objective.needs is None:
            return None
        place = workspace.scratch / folder
        return build_scorers(recipe, recipe.opd, teachers, student, objective.needs, place, world, head)

    average = average_of(recipe, next(iter(teachers.values()), None))
    trainee = Trainee(student, recipe.opd, start.id, world, shard=recipe.runtime.shard, average=average)
    scratch = workspace.scratch
    log = RolloutLog(scratch / "rollouts")
    with closing(Samplers.of(recipe, trainee)) as samplers:
        source = _source(recipe, trainee, scorer, samplers.rollouts, questions, triples, log, scratch)
        outcome = train_and_publish(recipe, "opd", trainee, source, loss, questions, samplers.points, workspace)
    rows = log.publish(workspace.path / "rollouts.parquet") if world.first else 0
    return Outcome(rows, outcome.metrics, outcome.ledger)


def _require_own_logits(recipe: Recipe, student: LoadedModel, teachers: Mapping[str, LoadedModel | None]) -> None:
    """Refuse models whose log-probabilities are not those of their own forward pass: both may be other than before."""
    from cohobate.models.own_forward import require_own_logits

    budget, here = recipe.opd.tokens_per_batch, "local" in (recipe.opd.sampler, recipe.evaluation.sampler)
    require_own_logits(student, "student", budget, samples=here)
    for name, teacher in teachers.items() if recipe.teacher.follow is None else ():
        if teacher is not None:
            require_own_logits(teacher, recipe.label(name), budget, samples=False)


def _source(
    recipe: Recipe,
    trainee: Trainee,
    scorer: Callable[[str], Scorer | None],
    sampler: Sampler,
    questions: Artifact,
    triples: Artifact,
    log: RolloutLog,
    scratch: Path,
) -> Source:
    """The batches of the objective; `scorer` saves the teacher's scores in the folder of `scratch` that it is given."""
    import polars as pl

    from cohobate.models.chat_template import prompt_opening, student_format
    from cohobate.models.context_room import fitting_rows
    from cohobate.models.privileged import Shown
    from cohobate.training.objectives.base import on_policy
    from cohobate.training.objectives.preference import RolloutPreference
    from cohobate.training.preference_source import RoundSource
    from cohobate.training.rollout_source import RolloutSource
    from cohobate.training.scored_source import MixedSource, ScoredTripleSource, scorable
    from cohobate.training.triple_source import TripleSource, select, training_rows, with_ghosts, with_gold_ghosts

    config, objective = recipe.opd, on_policy(recipe.opd)
    prompt_format, tokenizer, end = student_format(recipe), trainee.student.tokenizer, trainee.student.end
    opening = prompt_opening(tokenizer, prompt_format)
    if objective.references == "triples":
        prompts = with_ghosts(tokenizer, select(triples.path, recipe.sft.select, opening), prompt_format, end)
        if config.steps and prompts.is_empty():
            raise _nothing_given(recipe, triples)
    else:
        prompts = _fresh(recipe, questions)
    if objective.references == "gold":
        prompts = with_gold_ghosts(tokenizer, prompts, prompt_format, end)
        if prompts.is_empty():
            raise QuestionsError(
                f"no fresh question of {questions.id} has a gold response; name its column in "
                f"questions.columns.gold_response, or change opd.{config.objective} or opd.objective"
            )
    scores = scorer("scores")
    prompts = prompts.drop("teacher", strict=False) if scores is None else with_teachers(recipe, prompts)
    prompts = _with_room(recipe, trainee.student, scores, prompts, questions)
    if isinstance(objective, RolloutPreference):
        return RoundSource(objective, scratch / "reference", recipe, trainee, None, prompts, log, sampler)
    rollouts = RolloutSource(recipe, trainee, scores, prompts, log, sampler)
    if objective.on_policy_share == 1:
        return rollouts
    shown = Shown.of(recipe) if scores is not None else Shown()
    chosen = select(triples.path, recipe.sft.select, opening)
    chosen = shown.triples_with_values("opd, triples", chosen, questions.path)
    rows, size = training_rows(tokenizer, chosen, prompt_format, end), config.prompts * config.group
    keep = fitting_rows("opd", rows, trainee.student)
    rows, chosen = list(compress(rows, keep)), chosen.filter(pl.Series(keep, dtype=pl.Boolean))
    if config.steps and not rows:
        raise _nothing_given(recipe, triples)
    text: Source = TripleSource(rows, size, config.seed, trainee.world)
    if (of_triples := scorer("scores-of-triples")) is not None:
        texts, names = shown.queries(chosen), with_teachers(recipe, chosen)["teacher"].to_list()
        keep = scorable("opd", rows, texts, of_triples, names)
        rows, texts, names = (list(compress(each, keep)) for each in (rows, texts, names))
        text = ScoredTripleSource(rows, texts, of_triples, size, config.seed, "opd", names)
    return MixedSource(rollouts, text, objective.on_policy_share, config.seed)


def with_teachers(recipe: Recipe, rows: pl.DataFrame) -> pl.DataFrame:
    """Questions or triples with the name of the teacher that scores responses to them: of triples, who wrote them.

    The name is null where one teacher scores, or a mixture. Raises SelectionError for triples of other teachers.
    """
    import polars as pl

    from cohobate.sources.route import teachers_of

    if recipe.route is None or recipe.opd.mixture:
        return rows.with_columns(pl.lit(None, dtype=pl.String).alias("teacher"))
    if "sample_id" in rows.columns and "teacher" not in rows.columns:  # triples of a time with one teacher
        rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("teacher"))
    if "teacher" not in rows.columns:
        return rows.with_columns(teachers_of(recipe.route, rows).alias("teacher"))
    others = rows.filter(~rows["teacher"].is_in(list(recipe.by_teacher)).fill_null(False))
    if len(others):
        raise SelectionError(
            f"{len(others)} triples are of none of this recipe's teachers, so that no one scores them; leave them out "
            "of curation.mix, or choose an opd.objective that learns from rollouts alone"
        )
    return rows


def _nothing_given(recipe: Recipe, triples: Artifact) -> SelectionError:
    return SelectionError(
        f"{triples.id} has no triple for sft.select = '{recipe.sft.select}' that fits into the student's context, and "
        f"opd.objective = '{recipe.opd.objective}' learns from triples too; set sft.select = 'all', or choose another "
        "objective"
    )


def _with_room(
    recipe: Recipe, student: LoadedModel, scorer: Scorer | None, prompts: pl.DataFrame, questions: Artifact
) -> pl.DataFrame:
    """Those of `prompts` that leave the student room for a token, and its teacher for all that it may write; without
    those that lack what the teacher is to be shown.
    """
    from cohobate.models.chat_template import student_format
    from cohobate.models.context_room import Reader, set_aside, with_room
    from cohobate.models.privileged import Shown

    fitting = set_aside("opd", prompts, [(student, student_format(recipe))])
    if scorer is not None:
        shown = Shown.of(recipe)
        fitting = shown.with_values("opd", fitting)
        for name, own in scorer.readers():
            readers = [Reader(own.tokenizer, own.prompt_format, own.context)]
            theirs = fitting if name is None else fitting.filter(fitting["teacher"] == name)
            room = with_room("opd, teacher", theirs, shown.queries(theirs), readers, room=recipe.opd.max_tokens)
            beyond = theirs.join(room, on="question_id", how="anti")["question_id"]
            fitting = fitting.filter(~fitting["question_id"].is_in(beyond.to_list()))
    if recipe.opd.steps and fitting.is_empty() and not prompts.is_empty():
        raise QuestionsError(f"no prompt of {questions.id} leaves room in the models' context; lower opd.max_tokens")
    return fitting


def _fresh(recipe: Recipe, questions: Artifact) -> pl.DataFrame:
    import polars as pl

    frame = pl.read_parquet(questions.path / "questions.parquet")
    fresh = frame.filter(pl.col("split") == "fresh")
    if recipe.opd.steps and fresh.is_empty():
        raise QuestionsError(
            f"{questions.id} has no fresh questions to roll out on; raise questions.fresh (or questions.split.fresh)"
        )
    prompts_needed = -(-recipe.opd.steps // recipe.opd.updates) * recipe.opd.prompts
    if prompts_needed > len(fresh):
        progress.say(f"opd: {len(fresh)} fresh questions are asked {prompts_needed / len(fresh):.1f} times each")
    return fresh
