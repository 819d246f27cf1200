"""Requests that several runs need at the same time are sent once, whoever of them is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cohobate.teachers.claims import Claims, claims
from cohobate.teachers.response_store import ResponseStore
from tests.support.endpoint_recipe import number
from tests.support.overlapping_runs import ask, request
from tests.support.processes import wait_while_running
from tests.support.wire_server import Act, Body, WireServer, completion

HOLDER = """
import sys, time
from pathlib import Path
from cohobate.teachers.claims import claims

with claims(Path(sys.argv[1])) as own:
    print(*own.take(sys.argv[2:]), flush=True)
    time.sleep(600)
"""


Start = Callable[[int, int], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, server: WireServer) -> Iterator[Start]:
    """Starts a run that needs the requests of some numbers; what is still there at the end of the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(first: int, end: int) -> "subprocess.Popen[str]":
        numbers = [str(first), str(end)]
        command = [sys.executable, "-m", "tests.support.overlapping_runs", str(tmp_path), server.url, *numbers]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def slow(body: Body, _: int) -> Act:
    return Act(completion(body), delay=0.3)


def numbers(server: WireServer) -> Counter[int]:
    return Counter(number(seen.body) for seen in server.seen)


@pytest.mark.serves
@pytest.mark.parametrize(("runs", "shift"), [(2, 0), (3, 8), (8, 2)])
def test_each_request_of_several_runs_is_sent_once(
    runs: int, shift: int, start: Start, tmp_path: Path, server: WireServer
) -> None:
    server.plan = slow
    processes = [start(n * shift, n * shift + 20) for n in range(runs)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * runs, outcomes
    every = range((runs - 1) * shift + 20)
    assert numbers(server) == Counter(every)
    keys = [request(n).key for n in every]
    assert len(ResponseStore(tmp_path).find(keys, 64)) == len(keys)
    counts = [list(map(int, said.split())) for said, _ in outcomes]
    assert sum(received for received, _ in counts) == len(keys)
    assert not list(tmp_path.glob(".claims-*"))


@pytest.mark.kill
def test_what_a_killed_run_had_claimed_is_sent_by_the_one_that_waits(start: Start, server: WireServer) -> None:
    """Each request that was answered before the kill is sent once; those in flight at the kill, a second time."""

    def plan(body: Body, _: int) -> Act:
        return Act(completion(body), hang=8 <= number(body) < 12 and not killed, delay=0.05)

    killed: list[int] = []
    server.plan = plan
    first = start(0, 16)
    wait_while_running(first, lambda: len(numbers(server)) >= 12)
    second = start(0, 20)
    wait_while_running(second, lambda: {16, 17, 18, 19} <= numbers(server).keys())
    time.sleep(0.5)
    assert sum(numbers(server).values()) == 16, "the second has asked for nothing of the first's"
    killed.append(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    said, errors = second.communicate(timeout=120)
    assert second.returncode == 0 and f"process {first.pid} is at" in errors
    counts = numbers(server)
    assert [counts[n] for n in range(20)] == [1] * 8 + [2] * 4 + [1] * 8
    assert said.split() == ["12", "0"]


@pytest.mark.kill
def test_a_run_that_is_paused_keeps_its_claims(start: Start, tmp_path: Path, server: WireServer) -> None:
    """The other says what it waits for, and nothing is paid twice, though the pause outlasts every reply."""
    server.plan = lambda body, _: Act(completion(body), delay=0.2)
    first = start(0, 12)
    wait_while_running(first, lambda: len(server.seen) >= 3)
    os.kill(first.pid, signal.SIGSTOP)
    second = start(0, 16)
    wait_while_running(second, lambda: {12, 13, 14, 15} <= numbers(server).keys())
    time.sleep(1.5)
    assert second.poll() is None
    os.kill(first.pid, signal.SIGCONT)
    outcomes = [process.communicate(timeout=120) for process in (first, second)]
    assert numbers(server) == Counter(range(16)), outcomes
    assert f"process {first.pid} is at" in outcomes[1][1]
    assert len(ResponseStore(tmp_path).find([request(n).key for n in range(16)], 64)) == 16


@pytest.mark.serves
def test_what_another_run_failed_to_get_is_asked_for(start: Start, tmp_path: Path, server: WireServer) -> None:
    failed: set[int] = set()

    def plan(body: Body, _: int) -> Act:
        if number(body) == 3 and not failed:
            failed.add(3)
            return Act(status=400, payload={"error": {"message": "no"}}, delay=0.5)
        return Act(completion(body), delay=0.5)

    server.plan = plan
    other = start(0, 6)
    wait_while_running(other, lambda: len(server.seen) >= 4)
    assert ask(tmp_path, server.url, range(6))[0] == 1
    other.communicate()
    assert numbers(server) == Counter({**dict.fromkeys(range(6), 1), 3: 2})


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has claimed a and b."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "a", "b"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "True True\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.kill
def test_claims_end_with_their_process(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with claims(tmp_path) as own:
        assert own.take(["a", "c"]) == [False, True]
        assert own.take(["a"], again=True) == [False]
        killer = threading.Timer(0.5, holder.kill)
        killer.start()
        began = time.monotonic()
        own.wait(["a", "c"])
        assert 0.3 < time.monotonic() - began < 30
        assert own.take(["a", "b"]) == [False, False], "it may have stored them meanwhile: a look-up comes first"
        assert own.take(["a", "b"], again=True) == [True, True]
    assert not list(tmp_path.glob(".claims-*"))


@pytest.mark.kill
def test_what_a_killed_run_had_claimed_before_this_one_began_is_free(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    with claims(tmp_path) as own:
        assert own.take(["a", "b"]) == [True, True]
        assert len(list(tmp_path.glob(".claims-*"))) == 1


def test_two_runs_of_one_process_see_each_other(tmp_path: Path) -> None:
    def wait_for(run: Claims) -> None:
        run.wait(["a"])

    with claims(tmp_path) as one, claims(tmp_path) as other:
        assert one.take(["a", "b"]) == [True, True]
        assert other.take(["a", "b", "c"]) == [False, False, True]
        one.release(["b"])
        assert other.take(["a", "b"]) == [False, False]
        assert other.take(["a", "b"], again=True) == [False, True]
        assert one.take(["b", "c"], again=True) == [False, False]
        waiting = threading.Thread(target=wait_for, args=[other])
        waiting.start()
        one.release(["a"])
        waiting.join(10)
        assert not waiting.is_alive()


def test_claims_end_with_their_block_though_a_child_has_the_file_open(tmp_path: Path) -> None:
    with claims(tmp_path) as one:
        assert one.take(["a"]) == [True]
        child = os.fork()
        if child == 0:  # holds what it has inherited until it is ended
            signal.pause()
            os._exit(0)
    try:
        with claims(tmp_path) as other:
            assert other.take(["a"]) == [True]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
