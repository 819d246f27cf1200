"""The slot of a GPU: of all runs on a server, so many build on one at a time as the limit `gpu` allows."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL

from cohobate.core.progress import say

LIMIT = "gpu"
# A run that is killed holds its slot for so long at most; a live one renews it.
_LEASE_SECONDS = 60.0
# So long a server may be away, as to be started again, before a run that wants a slot gives up.
_AWAY_SECONDS, _PAUSE_SECONDS = 600.0, 3.0


def gpu_slot(wanted: bool) -> Callable[[str], AbstractContextManager[None]]:
    """What a build must hold: a slot of the server's limit, if it is `wanted`; nothing on a server of its own."""

    @contextmanager
    def hold(what: str) -> Iterator[None]:
        if not wanted or not PREFECT_API_URL.value():
            yield
            return
        slot = _acquired()
        say(f"{what} has its gpu slot")
        try:
            yield
        finally:
            _release(slot)

    return hold


def _acquired() -> AbstractContextManager[None]:
    """The slot, once there is one, entered. Prefect's clients try again only where they have been connected before."""
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
            if not _limit_was_missing():
                time.sleep(_PAUSE_SECONDS)
        else:
            return slot


def _limit_was_missing() -> bool:
    """Whether the server had no limit: one with a slot is made, as `cohobate up` makes it."""
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
