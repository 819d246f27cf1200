"""A command beside this process ends with all that it started, however this process ends."""

import os
import signal
import subprocess
import sys
import time
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


def test_it_ends_when_this_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from cohobate.core.processes import Group\n"
        "Group(['/bin/sh', '-c', sys.argv[1]], env=os.environ, log=Path(sys.argv[2])); time.sleep(100)"
    )
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", program, FAMILY[2], str(log)])
    pids = family(log)
    assert all(map(alive, pids))
    time.sleep(0.2)  # the guard starts after the command
    process.kill()
    process.wait()
    wait_until_gone(pids)


def test_ctrl_c_in_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    with Group(FAMILY, env=os.environ, log=tmp_path / "log") as group:
        family(tmp_path / "log")
        assert os.getpgid(group.process.pid) == group.process.pid != os.getpgid(0)
