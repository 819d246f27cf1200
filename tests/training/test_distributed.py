"""Training in several processes: the loss trajectory, the weights and the logs of one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohobate.training.distributed import World
from tests.support.processes_together import SETTINGS, assert_same_training, recipe, train

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    with pytest.MonkeyPatch.context() as patch:
        yield train(1, tmp_path_factory.mktemp("alone"), patch)


@pytest.mark.parametrize("shard", [False, True], ids=["copied", "sharded"])
def test_two_processes_train_as_one(
    shard: bool, alone: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = train(2, tmp_path, monkeypatch, shard=shard)
    assert_same_training(found, alone)
    logs = [pl.read_parquet(run["opd"] / "rollouts.parquet") for run in (found, alone)]
    for name in ("step", "row", "question_id", "response_ids", "finish_reason"):
        assert logs[0][name].to_list() == logs[1][name].to_list(), name


def test_lora_in_two_processes_trains_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = {"sft.lora.rank": 4, "opd.lora.rank": 4, "sft.steps": 3, "opd.steps": 2}
    one = train(1, tmp_path / "one", monkeypatch, **lora)
    assert_same_training(train(2, tmp_path / "two", monkeypatch, shard=True, **lora), one)


def test_the_number_of_processes_is_no_part_of_an_artifacts_identity(alone: dict[str, Path]) -> None:
    one, two = recipe(1), recipe(2, shard=True)
    assert one.runtime.identity() == two.runtime.identity() == {}


@pytest.mark.kill
def test_killed_together_they_resume_where_they_were(alone: dict[str, Path], tmp_path: Path) -> None:
    environment = {**os.environ, "COHOBATE_DATA": str(tmp_path)}
    settings = [f"{name}={value}" for name, value in {**SETTINGS, "runtime.processes": 2}.items()]
    command = [sys.executable, "-m", "tests.support.pipeline", "tiny", *settings]
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("opd/*.partial/scratch/snapshots/step-000002/state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [logged] = tmp_path.glob("opd/*.partial/scratch/rollouts")
    before = {path.name: path.stat().st_mtime_ns for path in logged.glob("step-*.parquet")}
    deadline = time.monotonic() + 20
    while [line for line in commands() if str(tmp_path) in line]:  # the other sees that it is alone
        assert time.monotonic() < deadline
        time.sleep(0.1)
    subprocess.run(command, env=environment, check=True)
    found = {stage: next((tmp_path / stage).glob("tiny-????????")) for stage in ("sft", "opd")}
    assert before and not list((tmp_path / "opd").glob("*.partial"))
    assert_same_training(found, alone)


@pytest.mark.kill
def test_a_process_whose_starter_has_ended_meanwhile_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    program = (
        "import time\nfrom cohobate.training.distributed import die_with_parent\ndie_with_parent()\ntime.sleep(60)"
    )
    environment = {**os.environ, "COHOBATE_RANK_PARENT": str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=30).returncode == 1


def commands() -> list[str]:
    """The command lines of what runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended in the meantime
            found.append(path.read_bytes().decode(errors="replace"))
    return found


def test_a_process_that_dies_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohobate import stages
    from cohobate.core.errors import CohobateError

    monkeypatch.setattr(stages, "RANK_MODULE", "cohobate.no_such_module")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with pytest.raises(CohobateError, match=r"^sft: process 1 of 2 ended with status 1: .*no_such_module"):
        train(2, tmp_path, monkeypatch)


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_shares_are_parts_and_interleave_again(rows: list[int], size: int) -> None:
    shares = [World(rank, size).share(rows) for rank in range(size)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    woven = [row for group in zip_longest(*shares, fillvalue=None) for row in group if row is not None]
    assert woven == rows
