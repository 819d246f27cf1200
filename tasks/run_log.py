"""The page of a run in the Prefect UI: its log, at the end a summary with all artifacts, on a failure what to do."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
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
from prefect.runtime import deployment, flow_run
from prefect.states import Crashed

from cohobate.core.errors import AwaitingError, CohobateError, UserError
from cohobate.report import dataset
from cohobate.store.artifacts import Artifact
from tasks import summary
from tasks.best_effort import attempt
from tasks.server import pages

_PAGE_ROWS = 100_000  # of a dataset whose page is written for its link: a second


class RunLog:
    """A progress listener: the terminal's messages stand in the run's log too."""

    def start(self, label: str, total: int, unit: str) -> None:
        self.message(f"{label}: {total:,} {unit}")

    def update(self, label: str, done: int, total: int, note: str) -> None:
        pass

    def finish(self, label: str) -> None:
        pass

    def measured(self, label: str, step: int, values: Mapping[str, float]) -> None:
        pass

    def message(self, line: str) -> None:
        try:
            get_run_logger().info(line)
        except MissingContextError:
            logging.getLogger(__name__).info(line)


def close_lost_tasks() -> None:
    """At a retry, set the tasks that died with the earlier process to Crashed: the UI shows them as running."""
    if (flow_run.run_count or 1) > 1:
        _close_tasks(UUID(str(flow_run.id)))


def close_tasks_of(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of a flow that crashed, which its worker calls: the task that it was at has crashed too."""
    attempt(_close_tasks, run=flow_run.id)


def _close_tasks(run: UUID) -> None:
    with get_client(sync_client=True) as client:
        running = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
            ),
        )
        for task in running:
            state: State[Any] = Crashed(message="Its process was killed; another attempt goes on from there.")
            attempt(client.set_task_run_state, task_run_id=task.id, state=state, force=True)


@contextmanager
def run_page(finished: Sequence[Artifact]) -> Iterator[None]:
    """Write a table of the `finished` artifacts and a summary to the run's page; on a failure its reason and remedy.

    finished: filled by the block.
    """
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal):
        raise
    except Exception as error:
        page = failure_page(error, finished)
        attempt(
            create_markdown_artifact, key="failure", markdown=page, description="Why the run failed, and what to do."
        )
        raise
    finally:
        if finished:
            description = "What the run made or found in the store, and where it is."
            attempt(create_table_artifact, key="artifacts", table=summary.rows(finished), description=description)
    for artifact in finished:
        attempt(_link, artifact=artifact)
    page, description = summary.of_run(finished), "Scores, figures and cost of the run."
    attempt(create_markdown_artifact, key="summary", markdown=page, description=description)


def _link(artifact: Artifact) -> None:
    """A link to the artifact's page, where `cohobate up` serves it; that of triples is written first."""
    page = artifact.path / "index.html"
    if not deployment.id:
        return
    if artifact.stage == "triples":
        page = dataset.default_path(artifact)
        if not page.is_file() and (artifact.manifest.rows or 0) <= _PAGE_ROWS:
            dataset.write_page(artifact, page)
    if page.is_file() and (address := pages.link(page)):
        create_link_artifact(address, link_text=artifact.id, description=f"The page of {artifact.id}.")


def error_message(error: Exception) -> str:
    """The error as a person reads it: cohobate's own are sentences already."""
    return str(error) if isinstance(error, CohobateError) else f"{type(error).__name__}: {error}"


def failure_page(error: Exception, finished: Sequence[Artifact]) -> str:
    """Markdown: the message first, then what to do, then the artifacts that are kept."""
    if isinstance(error, AwaitingError):
        todo = "Nothing failed. Press **Retry** (above, right) later, wait for the next nightly run, or run \
`cohobate resume`: what is under way is not submitted a second time."
    elif isinstance(error, UserError):
        todo = "Put that right and start a new run: what is finished is found in the store. Retry helps where the \
cause was outside the recipe: a key, a disk, a server."
    else:
        todo = "Press **Retry** (above, right): the failed stage goes on from its last snapshot or response, and what \
is finished is not made again. `cohobate resume` does the same from a terminal."
    artifacts = "\n".join(f"- `{artifact.id}`" for artifact in finished) or "- nothing yet"
    return f"## {error_message(error)}\n\n{todo}\n\nFinished and kept:\n\n{artifacts}\n"
