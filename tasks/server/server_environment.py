"""The environment of server, worker and runs.

Imports no Prefect, which reads the environment when it is imported.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from cohobate.store.artifacts import DATA, data_root
from tasks.server import access

HEARTBEAT_SECONDS = 30  # the shortest that Prefect allows


def is_here(url: str) -> bool:
    """Whether a server at that address would run on this machine, so that it may be started here."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def environment(url: str) -> dict[str, str]:
    """The environment of the clients of the server at `url`: worker, runs, commands.

    The user's own variables win, but for the address. The password is the user's, or that of a server of this machine.
    Raises UserError where it cannot be read.
    """
    root = str(Path(__file__).parents[2])  # flows and tasks are imported from there
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # In memory, the slots of runs would stay taken for ever when the server ends.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Seconds after which a run that waits for the GPU asks again, at most.
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
        # Seconds between a worker's requests for new runs; Prefect's 10 would be most of a short run.
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        # Per call, each after twice the pause of the one before: in all four minutes, in which a server may be away.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        # The database deletes runs after 90 days; their artifacts stay in the store.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    }
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    password = access.password(url) if is_here(url) else None
    if password:
        defaults[access.CLIENT] = password
    # Of this folder, for all runs: those of `cohobate deploy` work in the folders of their recipes.
    data = str(data_root().absolute())
    # An empty password is none: it would win over the server's, and open it.
    own = {name: value for name, value in os.environ.items() if value or name not in (access.CLIENT, access.SERVER)}
    return {**defaults, **own, "PREFECT_API_URL": f"{url}/api", "PYTHONPATH": path, DATA: data}


def environment_of_server(url: str) -> dict[str, str]:
    """The environment of a server that is started at `url`: closed to whoever lacks its password.

    Where the user has set none, one is made. The user's own variables win here too.
    """
    password = access.password(url) or access.make_password(url)
    return {**access.closed(url, password), **environment(url)}
