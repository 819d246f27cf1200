"""What a run is called in the UI, and its tags: which recipe ran, when, with which student and teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from cohobate.config import Recipe
from cohobate.core.formatting import model_name
from cohobate.core.sanitize import one_line

_LONGEST = 100  # characters of a part


def run_name() -> str:
    """The recipe, or what takes its place, and the moment for which the run was planned: the same at a retry."""
    try:
        what = _subject(flow_run.parameters or {})
    except Exception:  # parameters are whatever somebody sent; the flow itself says what is wrong with them
        what = ""
    return f"{what or flow_run.flow_name or 'run'} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M:%S}"


def _subject(parameters: Mapping[str, Any]) -> str:
    """Of a regeneration the dataset and the new teacher, of an evaluation the checkpoint."""
    if old := parameters.get("old"):
        return f"{_short(old)} by {_short(_value(parameters.get('teacher'), 'model'))}"
    if checkpoint := parameters.get("checkpoint"):
        return _short(checkpoint)
    recipe = parameters.get("recipe")
    return _short(Path(recipe).stem if isinstance(recipe, str) else _value(recipe, "name"))


def _value(section: Any, name: str) -> Any:
    return section.get(name) if isinstance(section, Mapping) else getattr(section, name, None)


def _short(value: Any) -> str:
    return "" if value is None else one_line(model_name(str(value)))[:_LONGEST]


def tag_run(recipe: Recipe) -> None:
    """Add the recipe, the student and the teacher to the run's tags, by which the UI filters."""
    if not flow_run.id:
        return
    named = [("recipe", recipe.name), ("student", recipe.student.model)]
    named += [("teacher", each.teacher.model) for each in recipe.by_teacher.values()]
    tags = [f"{kind}:{_short(value)}" for kind, value in named]
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*(flow_run.tags or ()), *tags}))
