"""A Prefect server with a worker and the deployments of prefect.yaml, until Ctrl+C: `cohobate up`.

    python -m tasks.up [--status] [--gpu SLOTS] [--lost-after SECONDS]

A server that answers already, here or at PREFECT_API_URL, is used and left running; a worker that is online too.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from types import FrameType

from tasks import place

_STARTUP_SECONDS = 120
_LOST_SECONDS = 180.0
_WELL_OR_NOT = ("--", "ok")


def main(argv: Sequence[str]) -> int:
    """Start what is missing, wait for an interrupt, stop what was started; returns the exit code."""
    arguments = _parse(argv)
    url = place.address()
    os.environ.update(place.environment(url))  # for this process's own client too
    try:
        return _status(url) if arguments.status else _up(url, arguments)
    except (FileNotFoundError, ConnectionError) as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return 2
    except (TimeoutError, subprocess.CalledProcessError) as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cohobate up")
    parser.add_argument("--status", action="store_true")
    parser.add_argument("--gpu", type=int)
    parser.add_argument("--lost-after", type=float, default=_LOST_SECONDS)
    return parser.parse_args(argv)


def _status(url: str) -> int:
    """0 if everything is there, else 1."""
    if not _answers(url):
        print(f"-- server      nothing answers at {url}: start it with `cohobate up`")
        return 1
    from tasks import service

    print(f"ok server      {url}")
    lines = list(service.status())
    for what, how, well in lines:
        print(f"{_WELL_OR_NOT[well]} {what:<11} {how}")
    return 0 if all(well for _, _, well in lines) else 1


def _up(url: str, arguments: argparse.Namespace) -> int:
    from tasks import service

    place.project()  # said before anything is started
    # Both, also where a shell's `&` has made us deaf to Ctrl+C: server and worker would inherit that, and not stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    running: list[subprocess.Popen[bytes]] = []
    try:
        if not _answers(url):
            running.append(_start(_server(url), url))
            _until(lambda: _answers(url), running[0], "server")
        service.ensure(gpu=arguments.gpu, lost_after=arguments.lost_after)
        service.deploy(url)
        if not running and service.worker_is_online():
            print(f"server and worker are up already, and the deployments are those of prefect.yaml: open {url}")
            return 0
        running.append(_start(["worker", "start", "--pool", service.POOL], url))
        _until(service.worker_is_online, running[-1], "worker")
        print(f"open {url}  ·  Ctrl+C stops what was started here; finished work is kept", flush=True)
        while all(process.poll() is None for process in running):
            time.sleep(0.5)
        print("cohobate: server or worker ended by itself; its lines above say why", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(running)


def _server(url: str) -> list[str]:
    """The command of a server at `url`. Raises ConnectionError for an address of another machine."""
    if not place.is_here(url):
        raise ConnectionError(
            f"no Prefect server answers at {url}, which PREFECT_API_URL names; start it, or unset that"
        )
    host, _, port = url.rpartition("/")[2].partition(":")
    return ["server", "start", "--host", host, "--port", port or "80"]


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    for _ in range(_STARTUP_SECONDS * 2):
        if condition():
            return
        if process.poll() is not None:
            raise TimeoutError(f"the {what} ended before it was up; its lines above say why")
        time.sleep(0.5)
    raise TimeoutError(f"the {what} was not up within {_STARTUP_SECONDS} seconds")


def _start(arguments: Sequence[str], url: str) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl+C reaches this program alone, which then stops the worker before the server.
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.Popen(command, env=place.environment(url), cwd=place.project(), start_new_session=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """The worker first: it tells the server which of its runs end with it."""
    for process in reversed(running):
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
