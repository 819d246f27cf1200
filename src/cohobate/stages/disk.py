"""The disk space that a recipe needs while it runs: snapshots, published students, and a teacher's scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cohobate.config import ObjectiveStage, Recipe
from cohobate.core.model_shape import ModelShape
from cohobate.stages import memory
from cohobate.training.objectives.base import TeacherNeeds, off_policy, on_policy

_LOGPROB, _ID = 4, 8  # bytes of a float32, and of a token's id beside it


def needed(recipe: Recipe, student: Any, teachers: Sequence[Any], *, half: bool) -> int:
    """Bytes at the most: those of the finished students, and what the stage that trains keeps meanwhile.

    student, teachers: their configurations, of the teachers that are here. half: models are published, and hidden
    states kept, in bfloat16.
    """
    size = memory.HALF if half else memory.FLOAT
    stages: list[ObjectiveStage] = [stage for stage in (recipe.sft, recipe.opd) if stage.steps]
    published = len(stages) * memory.weights(student, size)
    return published + max((_meanwhile(recipe, stage, student, teachers, size) for stage in stages), default=0)


def _meanwhile(recipe: Recipe, stage: ObjectiveStage, student: Any, teachers: Sequence[Any], size: int) -> int:
    # Those that are kept, and the one that is being written.
    snapshots = 3 + stage.alarms.patience // stage.snapshot_every
    follows = stage.asks_teacher and bool(recipe.teacher.follow)
    average = memory.weights(student, memory.FLOAT) if follows else 0
    return snapshots * (memory.states(student, stage) + average) + _scores(recipe, stage, teachers, size)


def _scores(recipe: Recipe, stage: ObjectiveStage, teachers: Sequence[Any], size: int) -> int:
    """Bytes of the scores that are kept, of responses as long as they may be: a server's between two snapshots,
    and a local teacher's of two steps.
    """
    if stage is recipe.opd:
        rows, length = recipe.opd.prompts * recipe.opd.group, recipe.opd.max_tokens
        needs = on_policy(recipe.opd).needs
    else:
        rows, length = recipe.sft.batch, recipe.triples.max_tokens
        needs = off_policy(recipe.sft).needs
    if needs is None:
        return 0
    beside = 2 if size == memory.HALF else 1  # on a GPU a snapshot is written while the next steps are scored
    steps = beside * stage.snapshot_every if recipe.served_scores else 2 * stage.keep_scores
    return steps * rows * length * _per_token(needs, teachers, size)


def _per_token(needs: TeacherNeeds, teachers: Sequence[Any], size: int) -> int:
    hidden = size * sum(ModelShape.of(each).width for each in teachers) if needs.hidden else 0
    return _LOGPROB + hidden + (needs.top_k or 0) * (_LOGPROB + _ID) + _ID * needs.ghosts
