"""The way back of a run that was taken for lost: while it is at work it sets itself to Running again.

Where a machine slept, or the server was away, for longer than `cohobate up --lost-after`, no heartbeat arrived. The
automation then set the run to Crashed, though its process goes on.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run as current_run
from prefect.states import Running

from tasks.server.connection import is_lasting

LOST = "Its machine or process is gone: no sign of life any more. Retry goes on where it stopped."
"""The automation's message; a run that crashed with another message is left alone."""
_SECONDS = 15.0
_log = logging.getLogger(__name__)


@contextmanager
def stay_running() -> Iterator[None]:
    """Inside the block, and once more at its end, undo a Crashed state that the automation set.

    Does nothing on the ephemeral server of a single run, which has no automation.
    """
    if not current_run.id or not is_lasting():
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(UUID(str(current_run.id)), ended), name="heartbeat", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join(_SECONDS)


def _watch(run: UUID, ended: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        count = None
        while True:
            last = ended.wait(_SECONDS)
            try:
                count = _revive(client, run, count)
            except Exception as error:  # the server is away: that is when this is needed, later
                _log.debug("the server did not say how the run is: %s", error)
            if last:
                return


def _revive(client: SyncPrefectClient, run: UUID, count: int | None) -> int:
    """Set the run to Running if it was lost, and return its attempt.

    count: the attempt that this process works on. A run that another attempt has taken over is left to that.
    """
    flow_run = client.read_flow_run(run)
    state = flow_run.state
    if state is not None and state.is_crashed() and state.message == LOST and count in (None, flow_run.run_count):
        back: State[Any] = Running(message="It was taken for lost while nothing was heard of it, and is at work.")
        client.set_flow_run_state(run, back, force=True)
        _log.warning("this run had been taken for lost; it is at work, and Running again")
        return client.read_flow_run(run).run_count
    return count or flow_run.run_count
