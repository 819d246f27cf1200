"""What the run page says: the log, at the end a summary with all artifacts, on a failure what to do."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import MissingContextError, TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

from cohobate.core.errors import CohobateError, UserError
from cohobate.store.artifacts import Artifact
from tasks import summary
from tasks.best_effort import tell


class RunLog:
    """What is said to the terminal stands in the run's log too."""

    def start(self, label: str, total: int, unit: str) -> None:
        self.said(f"{label}: {total:,} {unit}")

    def update(self, label: str, done: int, total: int, note: str) -> None:
        pass

    def finish(self, label: str) -> None:
        pass

    def said(self, line: str) -> None:
        try:
            get_run_logger().info(line)
        except MissingContextError:
            logging.getLogger(__name__).info(line)


def close_lost_tasks() -> None:
    """Set the tasks that died with a process to Crashed when the run is tried again: the UI has them run for ever."""
    if (flow_run.run_count or 1) < 2:
        return
    with get_client(sync_client=True) as client:
        running = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(flow_run.id))])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
            ),
        )
        for task in running:
            state: State[Any] = Crashed(message="Its process was killed; another attempt went on from there.")
            tell(client.set_task_run_state, task_run_id=task.id, state=state, force=True)


@contextmanager
def told(finished: Sequence[Artifact]) -> Iterator[None]:
    """The run's page gets a table of the `finished` artifacts and a summary; on a failure what failed, and what to do.

    finished: filled by the block.
    """
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal):
        raise
    except Exception as error:
        tell(create_markdown_artifact, key="failure", markdown=what_to_do(error, finished))
        raise
    finally:
        if finished:
            tell(create_table_artifact, key="artifacts", table=summary.rows(finished))
    tell(create_markdown_artifact, key="summary", markdown=summary.of_run(finished))


def words(error: Exception) -> str:
    """The error as a person reads it: our own are sentences already."""
    return str(error) if isinstance(error, CohobateError) else f"{type(error).__name__}: {error}"


def what_to_do(error: Exception, finished: Sequence[Artifact]) -> str:
    """The message first, then what to do, then what is kept."""
    if isinstance(error, UserError):
        todo = "Put that right and start a new run: what is finished is found in the store. Retry helps where the \
cause was outside the recipe: a key, a disk, a server."
    else:
        todo = "Press **Retry** (above, right): the failed stage goes on from its last snapshot or response, and what \
is finished is not made again. `cohobate resume` does the same from a terminal."
    kept = "\n".join(f"- `{artifact.id}`" for artifact in finished) or "- nothing yet"
    return f"## {words(error)}\n\n{todo}\n\nFinished and kept:\n\n{kept}\n"
