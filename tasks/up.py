"""A Prefect server with a worker and the deployments of prefect.yaml, until Ctrl+C: `python -m tasks.up`."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from types import FrameType

_POOL = "cohobate"
_STARTUP_SECONDS = 120


def main() -> int:
    """Start everything, wait for an interrupt, stop everything; returns the exit code."""
    port = os.environ.get("PREFECT_SERVER_API_PORT", "4200")
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if _answers(address):
        print(
            f"cohobate: something answers at {address} already; stop it, or set PREFECT_SERVER_API_PORT",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    running = [_start(["server", "start", "--host", "127.0.0.1", "--port", port], environment)]
    try:
        _wait_for(address, running[0])
        _call(["work-pool", "create", _POOL, "--type", "process", "--overwrite"], environment)
        _call(["--no-prompt", "deploy", "--all"], environment)
        running.append(_start(["worker", "start", "--pool", _POOL], environment))
        print(f"open {address}  ·  Ctrl+C stops server and worker; finished work is kept", flush=True)
        while all(process.poll() is None for process in running):
            time.sleep(1)
        print("cohobate: server or worker ended by itself; its lines above say why", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except (TimeoutError, subprocess.CalledProcessError) as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return 1
    finally:
        _stop(running)


def _prefect(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def _start(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl+C reaches this program alone, which then stops the worker before the server.
    return subprocess.Popen(_prefect(arguments), env=environment, start_new_session=True)


def _call(arguments: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(_prefect(arguments), env=environment, check=True)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(_STARTUP_SECONDS):
        if _answers(address):
            return
        if server.poll() is not None:
            raise TimeoutError("the Prefect server ended before it answered; its lines above say why")
        time.sleep(1)
    raise TimeoutError(f"the Prefect server did not answer within {_STARTUP_SECONDS} seconds")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in reversed(running):
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
