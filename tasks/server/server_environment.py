"""Where the Prefect server is, and the environment of it, its worker and its runs.

Imports no Prefect, which reads the environment when it is imported.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

HEARTBEAT_SECONDS = 30  # the shortest that Prefect allows
_DEFAULT_PORT = "4200"


def address() -> str:
    """Where the server is, or shall be: PREFECT_API_URL, or this machine at PREFECT_SERVER_API_PORT."""
    given = os.environ.get("PREFECT_API_URL")
    port = os.environ.get("PREFECT_SERVER_API_PORT", _DEFAULT_PORT)
    return given.rstrip("/").removesuffix("/api") if given else f"http://127.0.0.1:{port}"


def is_here(url: str) -> bool:
    """Whether the server of that address would be one of this machine, which we may start."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def environment(url: str) -> dict[str, str]:
    """Of server, worker and runs. What the user has set stands, but for the address."""
    root = str(Path(__file__).parents[2])  # where flows and tasks are imported from
    ours = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # In memory, the slots that runs hold would stay taken for ever when the server ends.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # A run that waits for the GPU asks again after so many seconds at most.
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
        # A worker asks for new runs so often; Prefect's 10 seconds would be most of a short run.
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        # Of a call, each after twice the pause of the one before: in all four minutes, in which a server may be away.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        # The database forgets runs after 90 days; what they made stays in the store.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    }
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    return {**ours, **os.environ, "PREFECT_API_URL": f"{url}/api", "PYTHONPATH": path}


def project() -> Path:
    """The folder of prefect.yaml: the working one, or that of the checkout. Raises FileNotFoundError."""
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        if (folder / "prefect.yaml").is_file():
            return folder
    raise FileNotFoundError(f"there is no prefect.yaml in {Path.cwd()}; run `cohobate up` in the folder that has it")
