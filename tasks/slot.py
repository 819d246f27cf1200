"""The slot of a GPU: of all runs on a server, so many build on one at a time as the limit `gpu` allows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL

from cohobate.progress import say

LIMIT = "gpu"
# A run that is killed holds its slot for so long at most; a live one renews it.
_LEASE_SECONDS = 60.0


def gpu_slot(wanted: bool) -> Callable[[str], AbstractContextManager[None]]:
    """What a build must hold: a slot of the server's limit, if it is `wanted`; nothing on a server of its own."""

    @contextmanager
    def hold(what: str) -> Iterator[None]:
        if not wanted or not PREFECT_API_URL.value():
            yield
            return
        # Strict: without it a missing limit is no limit. A renewal that fails, as while the server is restarted, must
        # not cost the run its work.
        with concurrency(LIMIT, strict=True, lease_duration=_LEASE_SECONDS, raise_on_lease_renewal_failure=False):
            say(f"{what} has its gpu slot")
            yield

    return hold
