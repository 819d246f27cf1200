"""The policy that every stage shares: a store hit ends as Cached, progress and results show in the Prefect UI."""

import time
from collections.abc import Callable
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
from prefect.states import Completed

from cohobate.config import Recipe
from cohobate.core import interrupts
from cohobate.core.errors import UserError
from cohobate.core.progress import listening
from cohobate.core.slots import required
from cohobate.store.artifacts import Artifact
from tasks.best_effort import tell
from tasks.slot import gpu_slot
from tasks.summary import of_artifact

P = ParamSpec("P")
StageFunction = Callable[Concatenate[Recipe, P], Artifact]
_PROGRESS_SECONDS = 3.0


def _never(recipe: Recipe) -> bool:
    return False


def always(recipe: Recipe) -> bool:
    """For `stage(gpu=...)`: whatever the recipe says."""
    return True


def stage(
    name: str, *, retries: int = 0, gpu: Callable[[Recipe], bool] = _never
) -> Callable[[StageFunction[P]], StageFunction[P]]:
    """Make a function that produces an artifact a Prefect task called `name`.

    gpu: whether its builds hold a slot of the server's limit `gpu`. Prefect's own result cache stays off: the store is
    the only cache. A user's mistake is not retried.
    """

    def decorate(function: StageFunction[P]) -> StageFunction[P]:
        @wraps(function)
        def produce(recipe: Recipe, *args: P.args, **kwargs: P.kwargs) -> Any:
            interrupts.check()
            with listening(ProgressArtifact()), required(gpu_slot(gpu(recipe))):
                artifact = function(recipe, *args, **kwargs)
            tell(create_markdown_artifact, key=name, markdown=of_artifact(artifact))
            if artifact.cached:
                return Completed(name="Cached", message=f"{artifact.id} was there", data=artifact)
            return artifact

        job = task(
            name=name,
            task_run_name=name,
            retries=retries,
            retry_delay_seconds=2,
            retry_condition_fn=_worth_retrying,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(produce)

        def call(recipe: Recipe, /, *args: P.args, **kwargs: P.kwargs) -> Artifact:
            return _unwrap(job(recipe, *args, **kwargs))

        return wraps(function)(call)

    return decorate


def _unwrap(result: Any) -> Artifact:
    """A task that returns a state hands that state to its caller."""
    value = result.result() if isinstance(result, State) else result
    assert isinstance(value, Artifact)
    return value


def _worth_retrying(task: Any, run: Any, state: State) -> bool:
    if interrupts.asked():
        return False
    try:
        state.result()
    except UserError:
        return False
    except Exception:
        return True
    return False


class ProgressArtifact:
    """A progress artifact a bar, updated every few seconds (an update costs 10 ms)."""

    def __init__(self) -> None:
        self.artifact: UUID | None = None
        self.last = 0.0

    def start(self, label: str, total: int, unit: str) -> None:
        if TaskRunContext.get():
            text = f"{label}: {total} {unit}"
            self.artifact = tell(create_progress_artifact, progress=0.0, description=text)

    def update(self, label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self.artifact is None or (now - self.last < _PROGRESS_SECONDS and done < total):
            return
        self.last = now
        text = f"{label}: {done} of {total}" + (f", {note}" if note else "")
        share = 100.0 * done / max(1, total)
        tell(update_progress_artifact, artifact_id=self.artifact, progress=share, description=text)

    def finish(self, label: str) -> None:
        self.artifact = None

    def said(self, line: str) -> None:
        pass
