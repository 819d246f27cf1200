"""Repair runs of deployments: retry one as the UI's button does, or free one that hangs without its process.

python -m tasks.server.repair_runs retry RUN
    `cohobate resume` of a worker's run
python -m tasks.server.repair_runs free RUN [--force]
    of a run that the automation does not see: it was lost before its first heartbeat,
    or it hangs in Cancelling
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from cohobate.core.errors import UserError
from cohobate.core.server_address import server_address
from cohobate.store import runs
from cohobate.store.runs import RunRecord
from tasks.server import server_environment


def main(argv: Sequence[str]) -> int:
    """Retry or free the run, and return the exit code: 2 if there is no such run, or it needs nothing."""
    parser = argparse.ArgumentParser(prog="cohobate")
    parser.add_argument("what", choices=["retry", "free"])
    parser.add_argument("run")
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args(argv)
    try:
        _repair(arguments.what, arguments.run, force=arguments.force)
    except UserError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _repair(what: str, name: str, *, force: bool) -> None:
    url = server_address()
    os.environ.update(server_environment.environment(url))
    import httpx
    from prefect.client.orchestration import get_client

    from tasks.server import connection

    connection.check(url)
    record = next((each for each in runs.all_records() if name in (each.id, each.flow_run_id)), None)
    try:
        with get_client(sync_client=True) as client:
            run = _find(client, record.flow_run_id if record and record.flow_run_id else name)
            record = record or runs.of_flow_run(str(run.id))
            if what == "retry":
                _retry(client, run)
            else:
                _free(client, run, record, force=force)
    except httpx.HTTPError as error:
        raise UserError(f"the Prefect server at {url} did not take that ({error}); try again") from None


def _find(client: Any, name: str) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName

    try:
        by_name = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(name)]))
    except ValueError:
        by_name = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    matches = client.read_flow_runs(flow_run_filter=by_name)
    if len(matches) != 1:
        raise UserError(f"'{name}' names {len(matches)} runs of the server at {server_address()}; give a flow run's id")
    return matches[0]


def _retry(client: Any, run: Any) -> None:
    from prefect.client.schemas.objects import State
    from prefect.states import AwaitingRetry

    if not run.state.is_final():
        raise UserError(f"run {run.name} is {run.state_name}; if its process is gone, free it: cohobate free {run.id}")
    if run.deployment_id is None:
        raise UserError(f"run {run.name} was made by no deployment, so no worker can take it; start it again")
    state: State[Any] = AwaitingRetry(message="Retry by hand.")
    client.set_flow_run_state(run.id, state, force=True)
    print(f"{run.name} waits for a worker: {server_address()}/runs/flow-run/{run.id}")


def _free(client: Any, run: Any, record: RunRecord | None, *, force: bool) -> None:
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    if run.state.is_final():
        raise UserError(f"run {run.name} is {run.state_name} and holds nothing; retry it, or start another")
    if record and runs.is_alive(record) and not force:
        raise UserError(
            f"run {run.name} is alive: process {record.pid} works on it; cancel it in the UI, or give --force"
        )
    state: State[Any] = Crashed(message="Freed by hand: its process was gone. Retry goes on where it stopped.")
    client.set_flow_run_state(run.id, state, force=True)
    if record and record.status == "running":
        runs.end(record, "interrupted", "freed by hand")
    print(f"{run.name} is Crashed: press Retry at {server_address()}/runs/flow-run/{run.id}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
