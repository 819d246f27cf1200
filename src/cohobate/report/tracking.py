"""The metrics of a run to experiment trackers, while it works: whatever befalls a tracker costs the run one sentence.

Each tracker has a thread and a journal of its own. The journal, `tracking/RUN.TRACKER.jsonl` of the data folder, has a
line for each step before the step is logged, so that an attempt that goes on with the run logs none a second time. What
was not logged live, such as the steps of a stage that another run has made, comes from the artifact's tables when the
stage is finished.
"""

from __future__ import annotations

import json
import math
import queue
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohobate.config import Recipe, TrackerName
from cohobate.core import context, interrupts, progress
from cohobate.core.sanitize import one_line, without_secrets
from cohobate.report import trackers
from cohobate.store.artifacts import Artifact, data_root

_TRAINING = ("sft", "opd")
_WAITING = 1000  # points of a tracker that is slow; what is beyond comes from the artifact's table
_FULL_SECONDS = 5.0  # for room in that queue at the end of a stage
END_SECONDS, _INTERRUPTED_SECONDS = 30.0, 1.0  # for a tracker to take what is left at the end of the run
_LONGEST_VALUE, _LONGEST_REASON = 500, 300  # characters


@dataclass(frozen=True)
class Point:
    """Values at a step of a stage. kind: points of one stage and step, but of different kinds, are different points.

    step: None for the results of the stage.
    """

    stage: str
    kind: str
    step: int | None
    values: Mapping[str, float]

    @property
    def key(self) -> str:
        """What the journal has of it."""
        return f"{self.stage} {self.kind} {'' if self.step is None else self.step}"


class Tracking:
    """A progress listener that hands what training stages measure, and what finished artifacts hold, to trackers."""

    def __init__(self, outlets: Iterable[Outlet]) -> None:
        self.outlets = tuple(outlets)

    def start(self, label: str, total: int, unit: str) -> None:
        """Only measurements count."""

    def update(self, label: str, done: int, total: int, note: str) -> None:
        """Only measurements count."""

    def finish(self, label: str) -> None:
        """Only measurements count."""

    def message(self, line: str) -> None:
        """Only measurements count."""

    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """Take what a training stage measured at `step`."""
        if self.outlets and label in _TRAINING:
            point = _measured(label, step, values)
            for outlet in self.outlets:
                outlet.offer(point)

    def finished(self, artifact: Artifact) -> None:
        """Take the results of `artifact`, and those of its steps that were not measured live."""
        for outlet in self.outlets:
            outlet.put(_points_of(artifact))


@contextmanager
def tracked(recipe: Recipe, run_id: str) -> Iterator[Tracking]:
    """Within the block the trackers of `recipe.tracking` get what is measured for the run `run_id`."""
    outlets = [Outlet(name, recipe, run_id) for name in recipe.tracking.to]
    tracking = Tracking(outlets)
    try:
        with context.listening(tracking):
            yield tracking
    finally:
        for outlet in outlets:
            outlet.close()


class Outlet:
    """One tracker and the thread in which it is used: no call of it can hold the run up."""

    def __init__(self, name: TrackerName, recipe: Recipe, run_id: str) -> None:
        self.name, self.recipe, self.run_id = name, recipe, run_id
        self.queue: queue.Queue[Iterable[Point] | None] = queue.Queue(_WAITING)
        self.has_failed = False
        self.thread = context.thread(self._work, f"tracking-{name}")
        self.thread.start()

    def offer(self, point: Point) -> None:
        """Log `point` some time; not at all where the tracker does not keep up."""
        with suppress(queue.Full):
            self.queue.put_nowait([point])

    def put(self, points: Iterable[Point]) -> None:
        """Log `points` some time."""
        self._put(points, _FULL_SECONDS)

    def close(self) -> None:
        """Wait for what is left, but not for long."""
        seconds = _INTERRUPTED_SECONDS if interrupts.received() else END_SECONDS
        self._put(None, seconds)
        if not self.has_failed:
            self.thread.join(seconds)
        if self.thread.is_alive():
            self._fail("it does not answer in time")

    def _put(self, points: Iterable[Point] | None, seconds: float) -> None:
        if not self.has_failed:
            try:
                self.queue.put(points, timeout=seconds)
            except queue.Full:
                self._fail("it does not answer in time")

    def _work(self) -> None:
        try:
            self._log_all()
        except Exception as error:  # the tracker's libraries raise anything
            self._fail(f"{type(error).__name__}: {error}")

    def _log_all(self) -> None:
        folder = data_root() / "tracking"
        journal = Journal(folder / f"{self.run_id}.{self.name}.jsonl")
        tracker = trackers.start(self.name, self.recipe, self.run_id, journal.external_id, folder)
        if journal.external_id is None:
            tracker.store_init_configuration(configuration(self.recipe))
            journal.begin(trackers.external_id(self.name, tracker))
        trackers.set_axes(self.name, tracker, _TRAINING)
        try:
            while (points := self.queue.get()) is not None:
                for point in points:
                    if point.values and journal.add(point.key):
                        trackers.log(self.name, tracker, point.stage, point.step, point.values)
        finally:
            tracker.finish()

    def _fail(self, reason: str) -> None:
        if not self.has_failed:
            self.has_failed = True
            text = one_line(without_secrets(reason))[:_LONGEST_REASON]
            progress.say(f"tracking: {self.name} takes no more metrics ({text}); the run goes on without it")


class Journal:
    """What a tracker has of a run, one JSON text a line. A line that was cut off counts for nothing.

    external_id: the tracker's own id of the run, empty if it has none; None: the tracker does not know the run yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.external_id: str | None = None
        self.keys: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, str):
                self.keys.add(entry)
            elif isinstance(entry, dict) and isinstance(entry.get("run"), str):
                self.external_id = entry["run"]

    def begin(self, external_id: str) -> None:
        """The tracker knows the run from now on."""
        self.external_id = external_id
        self._append({"run": external_id})

    def add(self, key: str) -> bool:
        """Note `key`, unless it is there already: False."""
        if key in self.keys:
            return False
        self.keys.add(key)
        self._append(key)
        return True

    def _append(self, entry: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def configuration(recipe: Recipe) -> dict[str, str | bool | int | float]:
    """The recipe in one level, as {"opd.lr": 1e-5}: numbers and texts, anything else as JSON text; unset keys left out.

    A recipe holds no secrets, only the names of the environment variables that do.
    """
    return dict(_flat(recipe.model_dump(mode="json"), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str | bool | int | float]]:
    for key, value in values.items():
        name = _name(f"{prefix}{key}")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, bool | int | float):
            yield name, value
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield name, without_secrets(text)[:_LONGEST_VALUE]


def _measured(stage: str, step: int, values: Mapping[str, Any]) -> Point:
    """A step of training, which numbers itself too, or else an evaluation point."""
    kind = "step" if "step" in values else "point"
    named = {name: value for name, value in values.items() if name != "step"}
    return Point(stage, kind, step, dict(_numbers(named, f"{stage}/")))


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """The finite numbers among `values`, those of tables in it too, by names with `prefix`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield _name(f"{prefix}{name}"), float(value)


def _name(text: str) -> str:
    """`text` in the characters that every tracker takes in a name."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", text)[:200]


def _points_of(artifact: Artifact) -> Iterator[Point]:
    """The steps and evaluation points of a training stage; the results of any stage."""
    import polars as pl

    stage, manifest = artifact.stage, artifact.manifest
    if stage in _TRAINING:
        for row in pl.read_parquet(artifact.path / "metrics.parquet").to_dicts():
            yield _measured(stage, int(row["step"]) + 1, row)
        for row in pl.read_parquet(artifact.path / "points.parquet").to_dicts():
            yield _measured(stage, int(row["step"]), {"accuracy": row["accuracy"]})
    flops = {"flops": sum(entry["flops"] for entry in manifest.ledger)} if manifest.ledger else {}
    if manifest.has_scores:
        results: dict[str, Any] = {f"{s.student}/{s.split}/{s.decoding}": s.accuracy.mean for s in manifest.scores}
    else:
        # Those of a training stage are its last step, which is logged, and how many there were.
        named = manifest.named_metrics
        results = {"steps": named.get("steps")} if stage in _TRAINING else dict(named)
    yield Point(stage, "results", None, dict(_numbers({**results, **flops}, f"{stage}/")))
