"""The slot of a GPU: of all runs on a server, as many build at a time as the limit `gpu` allows."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from cohobate.core.context import Slot
from cohobate.core.progress import say
from tasks.server.connection import is_lasting

LIMIT = "gpu"
# The longest that a killed run keeps its slot; a live one renews its lease.
_LEASE_SECONDS = 60.0
# The longest that a server may be away, as for a restart, before a run that waits for a slot gives up.
_AWAY_SECONDS, _PAUSE_SECONDS = 600.0, 3.0


def gpu_slot(required: bool) -> Slot:
    """A slot of the server's limit, if it is `required`; no slot on the ephemeral server of a single run."""

    @contextmanager
    def acquire(artifact_id: str) -> Iterator[None]:
        if not required or not is_lasting():
            yield
            return
        slot = _acquire()
        say(f"{artifact_id} has its gpu slot")
        try:
            yield
        finally:
            _release(slot)

    return acquire


def _acquire() -> AbstractContextManager[None]:
    """Wait for a slot and enter it. Prefect's own clients retry only where they have been connected before."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        # Strict: without it a missing limit is no limit. A renewal that fails, as while the server is restarted, must
        # not cost the run its work.
        slot = concurrency(LIMIT, strict=True, lease_duration=_LEASE_SECONDS, raise_on_lease_renewal_failure=False)
        try:
            slot.__enter__()
        except (ConcurrencySlotAcquisitionError, httpx.TransportError):
            if time.monotonic() > deadline:
                raise
            if not _created_limit():
                time.sleep(_PAUSE_SECONDS)
        else:
            return slot


def _created_limit() -> bool:
    """Create the limit with one slot, as `cohobate up` does; False if the server has it already."""
    try:
        with get_client(sync_client=True) as client:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
    except (ObjectAlreadyExists, httpx.HTTPError):
        return False
    return True


def _release(slot: AbstractContextManager[None]) -> None:
    try:
        slot.__exit__(None, None, None)
    except httpx.HTTPError:
        say("the Prefect server is away; the gpu slot is given back when its lease ends")
