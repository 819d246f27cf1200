"""Set a run that hangs without its process to Crashed: `cohobate free RUN`.

For what the automation does not see: a run that was lost before its first heartbeat, or one that hangs in Cancelling.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from cohobate import runs
from cohobate.errors import UserError
from tasks import place


def main(argv: Sequence[str]) -> int:
    """Returns the exit code; 2 if there is no such run, or if it need not be freed."""
    parser = argparse.ArgumentParser(prog="cohobate free")
    parser.add_argument("run")
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args(argv)
    os.environ.update(place.environment(place.address()))
    try:
        print(_free(arguments.run, force=arguments.force))
        return 0
    except UserError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return error.exit_code


def _free(name: str, *, force: bool) -> str:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    record = next((each for each in runs.everything() if name in (each.id, each.flow_run_id)), None)
    try:
        with get_client(sync_client=True) as client:
            run = _find(client, record.flow_run_id if record and record.flow_run_id else name)
            record = record or runs.of_flow_run(str(run.id))
            if run.state is None or run.state.is_final():
                raise UserError(f"run {run.name} is {run.state_name} and holds nothing; retry it, or start another")
            if record and runs.is_alive(record) and not force:
                raise UserError(
                    f"run {run.name} is alive: process {record.pid} works on it; cancel it in the UI, or give --force"
                )
            state: State[Any] = Crashed(message="Freed by hand: its process was gone. Retry goes on where it stopped.")
            client.set_flow_run_state(run.id, state, force=True)
    except httpx.HTTPError:
        raise UserError(f"no Prefect server answers at {place.address()}; set PREFECT_API_URL, or start one") from None
    if record and record.status == "running":
        runs.end(record, "interrupted", record.artifacts, "freed by hand")
    return f"{run.name} is Crashed: press Retry at {place.address()}/runs/flow-run/{run.id}"


def _find(client: Any, name: str) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName

    try:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(name)]))
    except ValueError:
        wanted = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    found = client.read_flow_runs(flow_run_filter=wanted)
    if len(found) != 1:
        raise UserError(f"'{name}' names {len(found)} runs of the server at {place.address()}; give a flow run's id")
    return found[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
