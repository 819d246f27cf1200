"""OPD: the student rolls out, the teacher scores every token -> model/ and rollouts, metrics, points.parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohobate.config import Recipe
from cohobate.errors import QuestionsError
from cohobate.store import Artifact, Outcome, Store, Workspace

if TYPE_CHECKING:
    import polars as pl

    from cohobate.objectives.base import Objective
    from cohobate.students import LoadedModel
    from cohobate.training.parallel import World

VERSION = 1


def train(recipe: Recipe, start: Artifact, questions: Artifact) -> Artifact:
    """Distil the teacher on-policy into the student that `start` ended with, on the fresh split of `questions`."""
    from cohobate.teachers.base import teacher_fingerprint

    teacher = {**recipe.teacher.identity(), "model": teacher_fingerprint(recipe.teacher)}
    return Store().produce(
        "opd",
        recipe=recipe,
        version=VERSION,
        identity={**recipe.opd.identity(), "teacher": teacher, "student": recipe.student.identity()},
        parents=[start, questions],
        build=lambda workspace: build(recipe, start, questions, workspace),
    )


def build(recipe: Recipe, start: Artifact, questions: Artifact, workspace: Workspace) -> Outcome:
    """What every process of the stage does; the first one's outcome counts."""
    from cohobate.training.parallel import together

    with together(recipe, [start, questions], workspace, "opd") as world:
        return _build(recipe, start, questions, workspace, world)


def _build(recipe: Recipe, start: Artifact, questions: Artifact, workspace: Workspace, world: World) -> Outcome:
    from cohobate.progress import say
    from cohobate.runtime import set_threads
    from cohobate.stages.common import train_and_publish
    from cohobate.students import load, refuse_mismatch
    from cohobate.training.adapters import Trainee
    from cohobate.training.rollout_log import RolloutLog
    from cohobate.training.rollout_source import RolloutSource

    set_threads(recipe)
    student = load(start.path / "model", device=recipe.runtime.device, train=True)
    # Without a step no teacher is asked: it may be one behind an endpoint, which cannot be loaded.
    teacher = load(recipe.teacher.model, device=recipe.runtime.device) if recipe.opd.steps else student
    refuse_mismatch(teacher, student)
    fresh = _fresh(recipe, questions)
    if recipe.opd.steps * recipe.opd.prompts > len(fresh):
        epochs = recipe.opd.steps * recipe.opd.prompts / len(fresh)
        say(f"opd: {len(fresh)} fresh questions are asked {epochs:.1f} times each")
    log = RolloutLog(workspace.scratch / "rollouts")
    trainee = Trainee(student, recipe.opd, start.id, world, shard=recipe.runtime.shard)
    source = RolloutSource(recipe, trainee, teacher, fresh, log, workspace.scratch / "scores")
    outcome = train_and_publish(recipe, "opd", trainee, source, _objective(recipe, teacher), questions, workspace)
    rows = log.publish(workspace.path / "rollouts.parquet") if world.first else 0
    return Outcome(rows, outcome.metrics, outcome.ledger)


def _fresh(recipe: Recipe, questions: Artifact) -> pl.DataFrame:
    import polars as pl

    frame = pl.read_parquet(questions.path / "questions.parquet")
    fresh = frame.filter(pl.col("split") == "fresh")
    if recipe.opd.steps and fresh.is_empty():
        raise QuestionsError(
            f"{questions.id} has no fresh questions to roll out on; raise questions.fresh (or questions.split.fresh)"
        )
    return fresh


def _objective(recipe: Recipe, teacher: LoadedModel) -> Objective:
    from cohobate.objectives.opd import ExactReverseKL, SampledReverseKL

    if recipe.opd.objective == "exact":
        head: Any = teacher.model.get_output_embeddings()
        return ExactReverseKL(head)
    return SampledReverseKL(recipe.opd.importance_cap, recipe.opd.advantage_clip)
