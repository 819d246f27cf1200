"""A run that is killed, again and again, ends with the same bytes as one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Store
from tests.support.pipeline import SMALL, Finished
from tests.support.processes import wait_while_running

pytestmark = pytest.mark.kill
STAGES = ["questions", "triples", "sft", "opd", "evaluation", "report"]


def start(root: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """All stages of the tiny recipe, as a program of its own."""
    environment = {**os.environ, "COHOBATE_DATA": str(root)}
    command = [sys.executable, "-m", "tests.support.pipeline", "tiny", *SMALL]
    return subprocess.Popen(command, env=environment, stderr=stderr)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def by_stage(root: Path) -> dict[str, Artifact]:
    return {artifact.stage: artifact for artifact in Store(root).all()}


def assert_same(root: Path, finished: Finished) -> None:
    """Same artifacts, same weights bit for bit, same ledger: what was paid, and how often."""
    found = by_stage(root)
    assert found.keys() == finished.artifacts.keys()
    for stage, expected in finished.artifacts.items():
        assert found[stage].fingerprint == expected.fingerprint
        assert found[stage].manifest.ledger == expected.manifest.ledger, stage
        assert found[stage].manifest.rows == expected.manifest.rows
    for stage in ("sft", "opd"):
        ours = load_file(found[stage].path / "model" / "model.safetensors")
        theirs = load_file(finished.artifacts[stage].path / "model" / "model.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), stage
    assert found["evaluation"].manifest.metrics == finished.artifacts["evaluation"].manifest.metrics


# What stands in a stage's unfinished folder, or in the response store, at the moment of the kill.
MOMENTS = {
    "questions": "questions/*.partial",
    "triples": "responses/journal-*.jsonl",
    "sft": "sft/*.partial/scratch/snapshots/step-000004/state.json",
    "opd": "opd/*.partial/scratch/rollouts/step-000003.parquet",
    "evaluation": "evaluation/*.partial/scratch/sft-*.parquet",
    "report": "report/*.partial",
}


def test_a_kill_in_each_stage_loses_nothing(tmp_path: Path, finished: Finished) -> None:
    root = tmp_path / "data"
    for stage, moment in MOMENTS.items():
        process = start(root)
        wait_while_running(process, lambda pattern=moment: any(file_or_folder_is_there(p) for p in root.glob(pattern)))
        kill(process)
        assert list(by_stage(root)) == STAGES[: STAGES.index(stage)]
    assert start(root).wait() == 0
    assert_same(root, finished)


def file_or_folder_is_there(path: Path) -> bool:
    return path.is_dir() or path.stat().st_size > 0


def test_kills_at_random_moments_lose_nothing(tmp_path: Path, finished: Finished) -> None:
    root = tmp_path / "data"
    draw = random.Random(int(os.environ.get("COHOBATE_KILL_SEED", "0")))
    for _ in range(4):
        process = start(root)
        begun = {path: path.stat().st_mtime_ns for path in root.glob("*/*")}
        # Importing takes seconds; the clock of the kill starts when the run has begun to work.
        wait_while_running(process, lambda before=begun: changed(root, before))
        time.sleep(draw.uniform(0, 3))
        kill(process)
        if "report" in by_stage(root):
            break
    assert start(root).wait() == 0
    assert_same(root, finished)


def changed(root: Path, before: dict[Path, int]) -> bool:
    now = {}
    for path in root.glob("*/*"):
        try:
            now[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
    return now != before


def test_a_replay_samples_nothing_again(tmp_path: Path, finished: Finished) -> None:
    """Steps after the last snapshot come from the rollout log: their files are not written a second time."""
    root = tmp_path / "data"
    process = start(root)
    log = "opd/*.partial/scratch/rollouts/step-*.parquet"
    wait_while_running(process, lambda: len(list(root.glob(log))) >= 2)
    kill(process)
    inodes = {path.name: path.stat().st_ino for path in root.glob(log)}
    process = start(root)
    wait_while_running(process, lambda: len(list(root.glob(log))) > len(inodes))
    assert all(path.stat().st_ino == inodes[path.name] for path in root.glob(log) if path.name in inodes)
    assert process.wait() == 0
    assert_same(root, finished)


def test_sigterm_and_ctrl_c_are_as_harmless_as_a_kill(tmp_path: Path, finished: Finished) -> None:
    root = tmp_path / "data"
    for number, moment in ((signal.SIGTERM, MOMENTS["sft"]), (signal.SIGINT, MOMENTS["opd"])):
        process = start(root)
        wait_while_running(process, lambda pattern=moment: list(root.glob(pattern)))
        process.send_signal(number)
        assert process.wait() != 0
    assert start(root).wait() == 0
    assert_same(root, finished)


def test_execution_settings_do_not_change_the_answers(finished: Finished, tiny: Recipe, data: Path) -> None:
    """Another evaluation batch size gives the same responses to every question."""
    import polars as pl

    from cohobate.stages import evaluation

    changed_recipe = tiny.model_copy(
        update={"evaluation": tiny.evaluation.model_copy(update={"batch_size": 7, "limit": 8})}
    )
    students = [finished.artifacts["sft"], finished.artifacts["opd"]]
    made = evaluation.evaluate(changed_recipe, finished.artifacts["questions"], students)
    ours = pl.read_parquet(made.path / "answers.parquet")
    theirs = pl.read_parquet(finished.artifacts["evaluation"].path / "answers.parquet")
    keys = ["student", "split", "decoding", "question_id", "response"]
    assert ours.select(keys).join(theirs.select(keys), on=keys, how="semi").height == len(ours)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a file system of its own, of 40 MB."""
    root = tmp_path / "data"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(root)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root)])


def test_a_disk_that_fills_up_is_one_sentence_and_nothing_is_lost(small_disk: Path, finished: Finished) -> None:
    process = start(small_disk, stderr=subprocess.PIPE)
    wait_while_running(process, lambda: list(small_disk.glob("sft/*.partial/scratch/points/*")))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1_000_000))
    _, said = process.communicate()
    assert process.returncode != 0
    last = said.decode().strip().splitlines()[-1]
    assert last.endswith(
        f"StoreError: the data folder {small_disk} is full; free some space and run again; what is finished is kept"
    )
    assert "triples" in by_stage(small_disk)
    filler.unlink()
    assert start(small_disk).wait() == 0
    assert_same(small_disk, finished)
