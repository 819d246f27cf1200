"""A command beside this process ends with all that it started, however this process ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cohobate.core.processes import Group
from tests.support.processes import alive, wait_until_gone

pytestmark = pytest.mark.serves

# A shell with a child of its own; both say their ids.
FAMILY = ["/bin/sh", "-c", "sleep 100 & echo $$ $!; wait"]


def family(log: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(part) for part in log.read_text().split()]


def test_stopping_ends_the_command_and_its_children(tmp_path: Path) -> None:
    with Group(FAMILY, env=os.environ, log=tmp_path / "log") as group:
        pids = family(tmp_path / "log")
        assert len(pids) == 2 and all(map(alive, pids)) and not group.ended
    wait_until_gone(pids)
    assert group.ended
    group.stop()  # again does nothing


def test_what_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    deaf = ["/bin/sh", "-c", "trap '' TERM; sleep 100 & echo $$ $!; while true; do wait; done"]
    group = Group(deaf, env=os.environ, log=tmp_path / "log")
    pids = family(tmp_path / "log")
    group.stop(seconds=0.2)
    wait_until_gone(pids)
    assert group.process.returncode == -signal.SIGKILL


def test_it_ends_when_this_process_is_killed_from_its_first_moment_on(tmp_path: Path) -> None:
    """The command tells its id itself, and so is met wherever it had got to."""
    program = (
        "import os, signal, sys, time; from pathlib import Path; from cohobate.core.processes import Group\n"
        "Group(['/bin/sh', '-c', sys.argv[1]], env=os.environ, log=Path(sys.argv[2]))\n"
        "time.sleep(float(sys.argv[3])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    mark = f"family-{os.getpid()}-{time.time_ns()}"
    for seconds in (0, 0, 0, 0.001, 0.003, 0.01, 0.2):
        command = [sys.executable, "-c", program, FAMILY[2], str(tmp_path / "log"), str(seconds)]
        assert subprocess.run(command, env={**os.environ, "MARK": mark}).returncode == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while left := with_environment(f"MARK={mark}"):
            assert time.monotonic() < deadline, (seconds, left)
            time.sleep(0.01)


def with_environment(line: str) -> list[int]:
    """The processes that have this variable, and so descend from where it was set."""
    matches = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and line.encode() in (process / "environ").read_bytes().split(b"\0"):
                matches.append(int(process.name))
    return [pid for pid in matches if alive(pid)]


@pytest.mark.parametrize("piped", [True, False])
def test_the_command_is_the_process_itself(tmp_path: Path, piped: bool) -> None:
    """Its id, exit code, input and output are those of the command, and it has no child that it did not start."""
    command = ["/bin/sh", "-c", "read -r line; echo $$ $line; wait; exit 7"]
    with Group(command, env=os.environ, log=tmp_path / "log", piped=piped) as group:
        if piped:
            assert group.process.stdin and group.process.stdout
            group.process.stdin.write(b"hello\n")
            group.process.stdin.flush()
            assert group.process.stdout.read() == f"{group.process.pid} hello\n".encode()
        assert group.process.wait(10) == 7 and group.ended
    if not piped:
        assert (tmp_path / "log").read_text() == f"{group.process.pid}\n"


def test_ctrl_c_in_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with Group(FAMILY, env=os.environ, log=tmp_path / "log") as group:
        family(tmp_path / "log")
        assert os.getpgid(group.process.pid) == group.process.pid != os.getpgid(0)


def test_it_may_end_by_itself_before_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from cohobate.core.processes import Group\n"
        "Group(['/bin/sh', '-c', sys.argv[1]], env=os.environ, log=Path(sys.argv[2]), grace=5.0)\n"
        "while not Path(sys.argv[2]).read_text(): time.sleep(0.01)"
    )
    orderly = f"trap 'touch {tmp_path / 'ended'}; exit' TERM; echo ready; while true; do sleep 0.05; done"
    subprocess.run([sys.executable, "-c", program, orderly, str(tmp_path / "log")], check=True)
    deadline = time.monotonic() + 10
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
