"""The curves of a stage that trains, on the page of its run: an artifact that is drawn anew every few seconds."""

import base64
import math
import time
from collections.abc import Mapping
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import TaskRunContext

from cohobate.report.curves import MEASURES, draw_curves
from tasks.best_effort import attempt
from tasks.summary import on_white, table

# A drawing takes a tenth of a second; what comes within these seconds of the one before waits for the next.
_SECONDS = 10.0


class CurvesArtifact:
    """A progress listener: one artifact per stage that measures anything while it works."""

    def __init__(self) -> None:
        self.points: dict[str, dict[int, float]] = {}
        self.artifact: UUID | None = None
        self.label, self.last, self.drawn = "", -math.inf, 0

    def start(self, label: str, total: int, unit: str) -> None:
        """Only measurements count."""

    def update(self, label: str, done: int, total: int, note: str) -> None:
        """Only measurements count."""

    def message(self, line: str) -> None:
        """Only measurements count."""

    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """Take what is drawn of the measurements at `step`; a step that is made again replaces the one before."""
        self.label = label
        for name in MEASURES:
            if (value := values.get(name)) is not None and math.isfinite(value):
                self.points.setdefault(name, {})[step] = value
        if time.monotonic() - self.last >= _SECONDS:
            self._draw()

    def finish(self, label: str) -> None:
        """Draw the last points."""
        self._draw()

    def _draw(self) -> None:
        count = sum(map(len, self.points.values()))
        if not TaskRunContext.get() or count == self.drawn:
            return
        self.last, self.drawn = time.monotonic(), count
        attempt(self._show)

    def _show(self) -> None:
        curves = {name: sorted(points.items()) for name, points in self.points.items()}
        picture = base64.b64encode(on_white(draw_curves(curves)).encode()).decode()
        newest = [[MEASURES[name], curve[-1][0], curve[-1][1]] for name, curve in curves.items()]
        lines = [f"![curves of {self.label}](data:image/svg+xml;base64,{picture})", ""]
        page = "\n".join([*lines, *table(["", "step", "newest"], newest)])
        if self.artifact is None:
            description = f"The curves of {self.label} so far."
            self.artifact = create_markdown_artifact(page, description=description)  # type: ignore[assignment]
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self.artifact, ArtifactUpdate(data=page))
