"""The command line with real signals: Ctrl+C in each stage, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cohobate.store.artifacts import STAGES, Store
from tests.support.pipeline import SMALL
from tests.support.processes import children, wait_while_running

pytestmark = [pytest.mark.kill, pytest.mark.prefect, pytest.mark.timeout(420)]

# A questions stage that lasts long enough to be met.
RECIPE = ["tiny", *(part for change in [*SMALL, "questions.fresh=40000"] for part in ("--set", change))]
MOMENTS = {
    "questions": "questions/*.partial",
    "triples": "responses/journal-*.jsonl",
    "sft": "sft/*.partial/scratch/points/step-000000.json",
    "opd": "opd/*.partial/scratch/rollouts/step-*.parquet",
    "evaluation": "evaluation/*.partial",
    "report": "report/*.partial",
}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")},
        "COHOBATE_DATA": str(folder / "data"),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    command = [sys.executable, "-m", "cohobate", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_in_each_stage_ends_with_130_and_resume_goes_on(tmp_path: Path) -> None:
    arguments = ["run", *RECIPE]
    for stage, moment in MOMENTS.items():
        process = start(tmp_path, *arguments)
        wait_while_running(process, lambda pattern=moment: any((tmp_path / "data").glob(pattern)))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, (stage, said)
        assert "Traceback" not in said, (stage, said)
        assert "cohobate resume" in said.strip().splitlines()[-1]
        done = [artifact.stage for artifact in Store(tmp_path / "data").all()]
        assert done == list(STAGES[: STAGES.index(stage)])
        arguments = ["resume"]
    process = start(tmp_path, "resume")
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    page = Path(printed.strip().splitlines()[-1].removeprefix("report: "))
    assert page.is_file() and page.name == "index.html"
    assert {artifact.stage for artifact in Store(tmp_path / "data").all()} == set(STAGES)


def test_a_killed_run_leaves_no_server_behind(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *RECIPE)
    wait_while_running(process, lambda: any((tmp_path / "data").glob(MOMENTS["questions"])))
    servers = [pid for pid in children(process.pid) if "uvicorn" in command_line(pid)]
    assert servers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any("uvicorn" in command_line(pid) for pid in servers):
        assert time.monotonic() < deadline, "the ephemeral server still runs"
        time.sleep(0.1)


def test_two_runs_of_one_recipe_build_each_artifact_once(tmp_path: Path) -> None:
    runs = [start(tmp_path, "run", *RECIPE, "--until", "sft") for _ in range(2)]
    said = [run.communicate(timeout=200)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert any("is being built by process" in text for text in said)
    assert len(Store(tmp_path / "data").all()) == 3
    assert not Store(tmp_path / "data").partial()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
