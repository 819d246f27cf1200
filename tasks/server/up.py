"""A Prefect server with a worker and the deployments of prefect.yaml, until Ctrl+C: `cohobate up`.

    python -m tasks.server.up [--status] [--gpu SLOTS] [--lost-after SECONDS] [--reset]

A server that answers already, here or at PREFECT_API_URL, is used and left running; so is a worker that is online. A
program that this command started is started again when it dies.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlsplit

from cohobate.core import interrupts
from cohobate.core.errors import UserError
from cohobate.core.server_address import server_address
from tasks.server import access, definitions, pages, server_environment

_STARTUP_SECONDS = 120
# A program that ends within these seconds of its start, and does so this many times in a row, is not started again.
_SHORT_SECONDS, _SHORT_LIVES = 20.0, 3
_MARKS = ("--", "ok")


def main(argv: Sequence[str]) -> int:
    """Start the missing programs, wait for an interrupt, stop them; returns the exit code."""
    arguments = _parse(argv)
    url = server_address()
    try:
        os.environ.update(server_environment.environment(url))  # for this process's own client too
        return _status(url) if arguments.status else _up(url, arguments)
    except (ConnectionError, UserError) as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # its own words stand above
        return error.returncode if error.returncode == UserError.exit_code else 1
    except TimeoutError as error:
        print(f"cohobate: {error}", file=sys.stderr)
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cohobate up")
    parser.add_argument("--status", action="store_true")
    parser.add_argument("--gpu", type=int)
    parser.add_argument("--lost-after", type=float)
    parser.add_argument("--reset", action="store_true")
    return parser.parse_args(argv)


def _status(url: str) -> int:
    """0 if everything is there, else 1."""
    if not _answers(f"{url}/api/health"):
        print(f"-- server      nothing answers at {url}: start it with `cohobate up`")
        return 1
    from tasks.server import connection, service

    connection.check(url)
    print(f"ok server      {url}")
    lines = [access_line(url), *service.status()]
    for part, state, well in lines:
        print(f"{_MARKS[well]} {part:<11} {state}")
    return 0 if all(well for _, _, well in lines) else 1


def access_line(url: str) -> tuple[str, str, bool]:
    """Who may use the server, as a line of the status."""
    status = _status_of(f"{url}/api/admin/version", seconds=20)
    if status == HTTPStatus.OK:
        return "access", "open to every program, and to web pages: started otherwise than by `cohobate up`", False
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        answer = "did not answer in time" if status is None else f"answered with {status}"
        return "access", f"not known: the server {answer}", False
    path = access.password_file(url)
    return "access", f"by the password in {path}" if path.is_file() else "by a password", True


def _up(url: str, arguments: argparse.Namespace) -> int:
    definitions.read(definitions.find())  # raises before anything is started
    # Also where a shell's `&` ignores Ctrl+C: server and worker would inherit that, and not stop.
    interrupts.install(*interrupts.SIGNALS)
    running: list[_Program] = []
    try:
        if not _answers(f"{url}/api/health"):
            running.append(_Program("server", _server(url), server_environment.environment_of_server(url)))
            running[0].wait(lambda: _answers(f"{url}/api/health"))
            os.environ.update(server_environment.environment(url))  # with the password, which may be new
        from tasks.server import connection, service  # Prefect, which reads the environment now

        connection.check(url)
        for sentence in service.ensure(gpu=arguments.gpu, lost_after=arguments.lost_after, reset=arguments.reset):
            print(f"{_MARKS[False]} {sentence}", flush=True)
        service.deploy(url, reset=arguments.reset)
        if not running and service.worker_is_online():
            print(f"server and worker are up already, and so are the deployments of {definitions.find()}: open {url}")
            return 0
        environment = server_environment.environment(url)
        running.append(_Program("worker", ["worker", "start", "--pool", service.POOL], environment))
        running[-1].wait(service.worker_is_online)
        _, who, well = access_line(url)
        print(f"{_MARKS[well]} access {who}")
        if pages.serve(url):
            print(f"{_MARKS[True]} pages  all runs: {pages.all_runs()}")
        else:
            print(f"{_MARKS[False]} pages  not served: links to reports do not open; they lie in the data folder")
        print(f"open {url}  ·  Ctrl+C stops what was started here; finished work is kept", flush=True)
        while True:
            time.sleep(0.5)
            for program in running:
                program.revive()
    except KeyboardInterrupt:
        return 0
    finally:
        interrupts.ignore()  # a second Ctrl+C would leave server or worker behind
        for program in reversed(running):  # the worker first: it reports to the server which of its runs end with it
            program.stop()


class _Program:
    """A program of Prefect's that is started again when it ends by itself: runs outlive their server."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name, self.arguments, self.environment = name, arguments, environment
        self.short_lives = 0
        self._start()

    def _start(self) -> None:
        self.started = time.monotonic()
        command = [sys.executable, "-m", "prefect", *self.arguments]
        # A session of its own: Ctrl+C reaches this program alone, which then stops the worker before the server.
        self.process = subprocess.Popen(
            command,
            env=self.environment,
            start_new_session=True,
        )

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until `condition` holds. Raises TimeoutError."""
        for _ in range(_STARTUP_SECONDS * 2):
            if condition():
                return
            if self.process.poll() is not None:
                raise TimeoutError(f"the {self.name} ended before it was up; its lines above say why")
            time.sleep(0.5)
        raise TimeoutError(f"the {self.name} was not up within {_STARTUP_SECONDS} seconds")

    def revive(self) -> None:
        """Start it again if it has ended. Raises TimeoutError when that does not help."""
        if self.process.poll() is None:
            return
        self.short_lives = self.short_lives + 1 if time.monotonic() - self.started < _SHORT_SECONDS else 0
        if self.short_lives >= _SHORT_LIVES:
            raise TimeoutError(f"the {self.name} ends again and again; its lines above say why")
        print(f"cohobate: the {self.name} ended by itself (code {self.process.returncode}) and is started again")
        self._start()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _server(url: str) -> list[str]:
    """The command of a server at `url`. Raises ConnectionError for an address of another machine."""
    if not server_environment.is_here(url):
        raise ConnectionError(
            f"no Prefect server answers at {url}, which PREFECT_API_URL names; start it, or unset that"
        )
    parts = urlsplit(url)  # whose hostname is an IPv6 address without its brackets
    return ["server", "start", "--host", parts.hostname or "127.0.0.1", "--port", str(parts.port or 80)]


def _answers(address: str) -> bool:
    """Whether it answers without a password."""
    return _status_of(address) == HTTPStatus.OK


def _status_of(address: str, seconds: float = 2) -> int | None:
    """The status of the answer to a request without a password; None where none comes within so many seconds."""
    try:
        with urllib.request.urlopen(address, timeout=seconds) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
