"""Processes that torchrun starts on two machines, here two addresses of one, train as one process does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes import children, wait_until_gone
from tests.support.processes_together import SETTINGS, assert_same_training, metrics, train

pytestmark = [pytest.mark.trains, pytest.mark.kill]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for torchrun and its processes, which have sessions of their own."""
    workers = children(process.pid)
    for pid in (process.pid, *workers):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(workers)


def node(data: Path, port: int, nodes: int, number: int) -> subprocess.Popen[bytes]:
    """One machine with one process."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--node-rank={number}"]
    address = ["--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    command = [*launcher, *address, "-m", "cohobate", "run", "tiny", "--until", "opd", *settings]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**own, "COHOBATE_DATA": str(data), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with (data / f"node-{nodes}-{number}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.timeout(600)
def test_two_machines_train_as_one_process_and_after_a_kill_three_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    alone = train(1, tmp_path / "alone", monkeypatch)
    data = tmp_path / "together"
    data.mkdir()
    port = free_port()
    started += (two := [node(data, port, 2, number) for number in range(2)])
    while not list(data.glob("opd/*.partial/scratch/snapshots/step-000002/state.json")):
        assert all(process.poll() is None for process in two), (data / "node-2-0.log").read_text()[-3000:]
        time.sleep(0.02)
    for process in two:
        end(process)
    assert list(data.glob("opd/*.partial"))  # nobody is left who could finish it
    port = free_port()
    started += (three := [node(data, port, 3, number) for number in range(3)])
    for number, process in enumerate(three):
        assert process.wait(timeout=240) == 0, (data / f"node-3-{number}.log").read_text()[-3000:]
    found = {stage: next((data / stage).glob("tiny-????????")) for stage in ("sft", "opd")}
    assert len(metrics(found["opd"])) == SETTINGS["opd.steps"]
    assert_same_training(found, alone)
