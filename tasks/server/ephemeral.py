"""The short-lived Prefect server of a run that has no other: it starts with the run and ends after it."""

import atexit
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import prefect

from cohobate.core.errors import CohobateError
from cohobate.core.processes import Group
from cohobate.store.artifacts import data_root
from tasks.server import access, connection

_STARTUP_SECONDS, _END_SECONDS = 120.0, 1.5
_ATTEMPTS = 3  # another program may take the port before the server does


def start() -> None:
    """Start the server, wait until it answers, and let this process use it.

    It leads a process group of its own, so that Ctrl+C in a terminal does not reach it: it is told to end when this
    process has ended, however that happened, since until then there are states and logs to send. Raises CohobateError
    when it does not start.
    """
    password = access.new_password()
    log = data_root() / "logs" / f"prefect-server-{os.getpid()}.log"
    for _ in range(_ATTEMPTS):
        url = f"http://127.0.0.1:{_free_port()}"
        server = Group(_command(url), env=_environment(url, password), log=log, grace=_END_SECONDS)
        if _is_up(server, url):
            connection.use(url, password, ephemeral=True)
            atexit.register(_discard, log)
            return
        server.kill()
    raise CohobateError(f"the Prefect server of this run did not start; {log} says why")


def _command(url: str) -> list[str]:
    host, _, port = url.rpartition("/")[2].partition(":")
    app = ["--app-dir", str(prefect.__module_path__.parent), "--factory", "prefect.server.api.server:create_app"]
    where = ["--host", host, "--port", port]
    return [sys.executable, "-m", "uvicorn", *app, *where, "--log-level", "error", "--lifespan", "on"]


def _environment(url: str, password: str) -> dict[str, str]:
    """As Prefect starts such a server: without its pages, and only the services that a run needs."""
    return {
        **os.environ,
        **access.closed(url, password),
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }


def _is_up(server: Group, url: str) -> bool:
    """Wait until it answers; False if it has ended before, or takes too long."""
    deadline = time.monotonic() + _STARTUP_SECONDS
    while not server.ended and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/api/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _discard(log: Path) -> None:
    """Delete the server's log, if it says nothing."""
    if log.is_file() and not log.stat().st_size:
        log.unlink()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
