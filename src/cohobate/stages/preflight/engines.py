"""Checks of the engines that sample: vLLM knows each model, starts with it, and computes what the model itself does."""

from __future__ import annotations

from pathlib import Path

from cohobate.config import Recipe
from cohobate.core.fingerprint import hash_value
from cohobate.stages.preflight.scope import Role, Scope

_passed: dict[str, str] = {}  # in this process: the stages of a run check one after another


def student(scope: Scope) -> str:
    """The student is computed right by vLLM."""
    return _trial(scope.recipe, "student")


def teacher(scope: Scope) -> str:
    """The same of a teacher that vLLM samples in evaluation."""
    return _trial(scope.recipe, "teacher")


def _trial(recipe: Recipe, role: Role) -> str:
    from cohobate.models.loading import model_fingerprint, model_path, outline
    from cohobate.models.torch_setup import prepare_torch
    from cohobate.teachers.vllm.trial import tried_engine

    settings = recipe.teacher if role == "teacher" else recipe.opd.vllm
    path: Path = model_path(getattr(recipe, role).model)
    what = hash_value([role, model_fingerprint(str(path)), settings.model_dump(mode="json"), str(path)])
    if what not in _passed:
        prepare_torch(recipe.runtime)
        engine, words = tried_engine(outline(path), settings, role, recipe.evaluation.batch_size, recipe.runtime)
        engine.close()
        _passed[what] = words
    return _passed[what]
