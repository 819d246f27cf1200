"""The policy that every stage shares: a store hit ends as Cached, progress and results show in the Prefect UI."""

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed, Failed

from cohobate.config import Recipe
from cohobate.core import context, interrupts, launch
from cohobate.core.errors import AwaitingError, BatchFailuresError, UserError
from cohobate.store.artifacts import Artifact
from tasks.best_effort import attempt
from tasks.curves import CurvesArtifact
from tasks.gpu_slot import gpu_slot
from tasks.summary import of_artifact

P = ParamSpec("P")
Stage = Callable[Concatenate[Recipe, P], Artifact]
_PROGRESS_SECONDS = 3.0


def stage_task(
    name: str, stage: Stage[P], *, retries: int = 0, gpu: bool | Callable[[Recipe], bool] = False
) -> Stage[P]:
    """`stage` as a Prefect task called `name`.

    gpu: whether its builds acquire a slot of the server's limit `gpu`. Prefect's own result cache stays off: the store
    is the only cache. A user's mistake is not retried, nor are failures of batches, which the next run submits again.
    """

    @task(
        name=name,
        task_run_name=name,
        retries=retries,
        retry_delay_seconds=2,
        retry_condition_fn=_is_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    @wraps(stage)
    def produce(recipe: Recipe, *args: P.args, **kwargs: P.kwargs) -> Any:
        interrupts.check()
        needs_gpu = gpu if isinstance(gpu, bool) else gpu(recipe)
        with (
            context.listening(ProgressArtifact()),
            context.listening(CurvesArtifact()),
            context.using(slot=gpu_slot(needs_gpu)),
        ):
            try:
                artifact = stage(recipe, *args, **kwargs)
            except AwaitingError as error:
                return awaiting(error)
        description = f"What the stage {name} of recipe {recipe.name} {'found' if artifact.cached else 'made'}."
        attempt(create_markdown_artifact, key=name, markdown=of_artifact(artifact), description=description)
        if artifact.cached:
            return Completed(name="Cached", message=f"{artifact.id} was there", data=artifact)
        return artifact

    @wraps(stage)
    def call(recipe: Recipe, /, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        return _artifact(produce(recipe, *args, **kwargs))

    return call


def awaiting(error: AwaitingError) -> State[Any]:
    """The state of what goes on later, called Awaiting: Prefect offers Retry, and runs nothing that comes after it."""
    return Failed(name="Awaiting", message=str(error), data=error)


def _artifact(result: Any) -> Artifact:
    """The artifact of a task's result: a task that returns a state hands that state to its caller."""
    value = result.result() if isinstance(result, State) else result
    assert isinstance(value, Artifact)
    return value


def _is_worth_retrying(task: Any, run: Any, state: State) -> bool:
    # Processes of torchrun are in the middle of the attempt that failed here; they can only begin anew together.
    if interrupts.received() or launch.size() > 1:
        return False
    try:
        state.result()
    except (UserError, AwaitingError, BatchFailuresError):
        return False
    except Exception:
        return True
    return False


class ProgressArtifact:
    """A progress listener: one progress artifact per bar, updated every few seconds (an update costs 10 ms)."""

    def __init__(self) -> None:
        self.artifact: UUID | None = None
        self.last = 0.0

    def start(self, label: str, total: int, unit: str) -> None:
        if TaskRunContext.get():
            text = f"{label}: {total} {unit}"
            self.artifact = attempt(create_progress_artifact, progress=0.0, description=text)

    def update(self, label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self.artifact is None or (now - self.last < _PROGRESS_SECONDS and done < total):
            return
        self.last = now
        text = f"{label}: {done} of {total}" + (f", {note}" if note else "")
        share = 100.0 * done / max(1, total)
        attempt(update_progress_artifact, artifact_id=self.artifact, progress=share, description=text)

    def finish(self, label: str) -> None:
        self.artifact = None

    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """The curves have it."""

    def message(self, line: str) -> None:
        """The run's log has it already."""
