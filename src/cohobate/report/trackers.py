"""The experiment trackers of `tracking.to`, through accelerate's one interface to them (`GeneralTracker`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cohobate.config import Recipe, TrackerName
from cohobate.core import launch
from cohobate.core.errors import RecipeError

KEYS: dict[str, tuple[str, ...]] = {"wandb": ("WANDB_API_KEY",), "mlflow": ("MLFLOW_TRACKING_TOKEN",)}
"""Environment variables that hold the keys of a tracker, and may be Secret blocks."""
# A server that is away would be asked again for minutes, during which nothing else is logged and no run ends.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "25",
    "WANDB_FINISH_TIMEOUT_RAISES": "true",
}


def require_usable(recipe: Recipe) -> None:
    """Raise RecipeError where the recipe names a tracker under torchrun, or one whose package is not installed."""
    if recipe.tracking.to and launch.size() > 1:
        # In the environment of torchrun accelerate would meet the other processes by itself, in a tracker's thread.
        raise RecipeError(
            f"tracking.to names {' and '.join(recipe.tracking.to)}, and trackers get nothing from a run of torchrun's "
            f"{launch.size()} processes; set tracking.to = [], or on one machine runtime.processes in place of torchrun"
        )
    for name in recipe.tracking.to:  # the package of each is called as it is
        missing = [package for package in ("accelerate", name) if not _is_installed(package)]
        if missing:
            raise RecipeError(
                f"tracking.to names {name}, and {' and '.join(missing)} is not installed: pip install "
                f"'cohobate[tracking]' {name}, or take {name} out of tracking.to"
            )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def start(name: TrackerName, recipe: Recipe, run_id: str, earlier: str | None, folder: Path) -> Any:
    """The started tracker of the run `run_id`: a new one, or that which the attempt before has begun.

    earlier: the id that `external_id` gave then. folder: for what a tracker keeps on this machine. Raises whatever the
    tracker raises.
    """
    from accelerate import PartialState

    for variable, value in _PATIENCE.items():
        os.environ.setdefault(variable, value)
    PartialState()  # accelerate's logging refuses without it
    makers: dict[TrackerName, Callable[[Recipe, str, str | None, Path], Any]] = {
        "tensorboard": _tensorboard,
        "mlflow": _mlflow,
        "wandb": _wandb,
        "trackio": _trackio,
    }
    tracker = makers[name](recipe, run_id, earlier, folder)
    tracker.start()
    return tracker


def external_id(name: TrackerName, tracker: Any) -> str:
    """The tracker's own id of the run, where it chooses that itself; else empty."""
    return str(tracker.tracker.info.run_id) if name == "mlflow" else ""


def _tensorboard(recipe: Recipe, run_id: str, earlier: str | None, folder: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(run_id, folder / "tensorboard")


def _mlflow(recipe: Recipe, run_id: str, earlier: str | None, folder: Path) -> Any:
    import mlflow
    from accelerate.tracking import MLflowTracker

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    teachers = ", ".join(each.teacher.model for each in recipe.by_teacher.values())
    tags = {"recipe": recipe.name, "student": recipe.student.model, "teacher": teachers}
    return MLflowTracker(recipe.tracking.project, run_id=earlier or None, run_name=run_id, tags=tags)


def _wandb(recipe: Recipe, run_id: str, earlier: str | None, folder: Path) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    # What the run prints, and its code, are nobody's business; who is not logged in is not asked for a key.
    settings = wandb.Settings(console="off", disable_code=True, disable_git=True, silent=True, login_timeout=1)
    names = {"id": run_id, "name": run_id, "group": recipe.name, "resume": "allow"}
    return WandBTracker(recipe.tracking.project, dir=str(folder), settings=settings, **names)


def _trackio(recipe: Recipe, run_id: str, earlier: str | None, folder: Path) -> Any:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(recipe.tracking.project, name=run_id, group=recipe.name, resume="allow")


def log(name: TrackerName, tracker: Any, stage: str, step: int | None, values: Mapping[str, float]) -> None:
    """Log `values` at a step of the stage; None: results of the whole run.

    A step of wandb's may not go back, as those of each stage begin anew: there it is one of the values.
    """
    if name == "wandb":
        tracker.log({**values, **({} if step is None else {f"{stage}/step": step})})
    else:
        tracker.log(dict(values), step=step)


def set_axes(name: TrackerName, tracker: Any, stages: tuple[str, ...]) -> None:
    """Let wandb draw the metrics of each stage over that stage's steps."""
    if name == "wandb":
        for stage in stages:
            tracker.tracker.define_metric(f"{stage}/step")
            tracker.tracker.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
