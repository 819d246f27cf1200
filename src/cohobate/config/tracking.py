"""Experiment trackers that get the metrics of a run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from cohobate.core.settings import EXECUTION, Section

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


def _each_once(names: list[TrackerName]) -> list[TrackerName]:
    if len(set(names)) < len(names):
        raise ValueError("each tracker is named once")
    return names


class Tracking(Section):
    """Where the metrics of a run go beside the report; what the run makes does not depend on it.

    A tracker needs `pip install 'cohobate[tracking]'` and its own package.
    """

    to: Annotated[list[TrackerName], AfterValidator(_each_once), EXECUTION] = []
    """The trackers, as in ["tensorboard", "mlflow"]; none unless set. Addresses and keys are those of the trackers' own
    environment variables (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE, ...)."""
    project: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), EXECUTION] = "cohobate"
    """The project (wandb, trackio) or experiment (MLflow): letters, digits, dots, hyphens and underscores."""
