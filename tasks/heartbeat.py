"""A run that was taken for lost while it is at work sets itself to Running again.

A machine that slept, or a server that was away for longer than `cohobate up --lost-after`: no heartbeat was heard, so
that the automation set the run to Crashed, and yet its process goes on.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Running

LOST = "Its machine or process is gone: no sign of life any more. Retry goes on where it stopped."
"""The automation's message; a run that Crashed with another one is let be."""
_SECONDS = 15.0
_log = logging.getLogger(__name__)


@contextmanager
def alive() -> Iterator[None]:
    """Inside the block, and once more at its end, the flow run is not left Crashed by the automation.

    A server that a run brings with it has no automation.
    """
    if not flow_run.id or not PREFECT_API_URL.value():
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(UUID(str(flow_run.id)), ended), name="alive", daemon=True)
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
    """Returns the run's attempt; one that another attempt has taken over (it is not `count`) is left to that."""
    found = client.read_flow_run(run)
    state = found.state
    if state is not None and state.is_crashed() and state.message == LOST and count in (None, found.run_count):
        back: State[Any] = Running(message="It was taken for lost while nothing was heard of it, and is at work.")
        client.set_flow_run_state(run, back, force=True)
        _log.warning("this run had been taken for lost; it is at work, and Running again")
        return client.read_flow_run(run).run_count
    return count or found.run_count
