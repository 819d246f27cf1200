"""The command line with real signals: Ctrl+C in each stage, and what a kill leaves behind."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from cohobate.store.artifacts import STAGES, Store
from tests.support.pipeline import SMALL, Finished
from tests.support.prefect_server import Up
from tests.support.processes import children, wait_until_gone, wait_while_running

pytestmark = [pytest.mark.kill, pytest.mark.prefect, pytest.mark.timeout(420)]

RECIPE = ["tiny", *(part for change in SMALL for part in ("--set", change))]
LONG = [*RECIPE, "--set", "questions.fresh=40000"]  # with a questions stage that lasts long enough to be met
MOMENTS = {
    "questions": "questions/*.partial",
    "triples": "responses/journal-*.jsonl",
    "sft": "sft/*.partial/scratch/points/step-000000.json",
    "opd": "opd/*.partial/scratch/rollouts/step-*.parquet",
    "evaluation": "evaluation/*.partial",
    "report": "report/*.partial",
}
SECONDS = 5  # from the first Ctrl+C to the end


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")},
        "COHOBATE_DATA": str(folder / "data"),
        "PREFECT_HOME": str(folder / "prefect"),
        **more,
    }


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cohobate", *arguments]
    env = environment(folder)
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Terminal:
    """`cohobate ARGUMENTS` in a terminal of its own, where Ctrl+C is a key: it reaches the whole foreground group."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.keys, side = pty.openpty()
        self.text = b""
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "cohobate", *arguments],
            env=env,
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other side is closed
            while part := os.read(self.keys, 4096):
                self.text += part

    def ctrl_c(self) -> float:
        """Press it, and wait for the end; the seconds that took."""
        began = time.monotonic()
        os.write(self.keys, b"\x03")
        self.process.wait(60)
        seconds = time.monotonic() - began
        self.reader.join(5)
        os.close(self.keys)
        return seconds

    @property
    def lines(self) -> list[str]:
        return self.text.decode().splitlines()


def interrupt(env: dict[str, str], stage: str, *arguments: str) -> None:
    """Press Ctrl+C in `stage`: the run ends in time and says how to go on, and no server of its own is left."""
    data = Path(env["COHOBATE_DATA"])
    run = Terminal(env, *arguments)
    wait_while_running(run.process, lambda: any(data.glob(MOMENTS[stage])))
    servers = [pid for pid in children(run.process.pid) if "uvicorn" in command_line(pid)]
    assert len(servers) == (0 if "PREFECT_API_URL" in env else 1)
    seconds = run.ctrl_c()
    assert run.process.returncode == 130 and seconds < SECONDS, (stage, seconds, run.lines)
    assert "Traceback" not in run.text.decode(), (stage, run.lines)
    assert "cohobate resume" in run.lines[-1]
    wait_until_gone(servers)
    assert [artifact.stage for artifact in Store(data).all()] == list(STAGES[: STAGES.index(stage)])


def weights(data: Path, stage: str) -> bytes:
    [artifact] = [artifact for artifact in Store(data).all() if artifact.stage == stage]
    return (artifact.path / "model" / "model.safetensors").read_bytes()


def test_ctrl_c_in_a_terminal_ends_training_in_time_and_resume_gets_the_same_weights(
    tmp_path: Path, finished: Finished
) -> None:
    """The server of the run, which the key does not reach, hears how the run ended, and is gone with it."""
    interrupt(environment(tmp_path), "sft", "run", *RECIPE, "--until", "sft")
    process = start(tmp_path, "resume")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert weights(tmp_path / "data", "sft") == weights(finished.root, "sft")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a run of LONG that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(folder, "run", *LONG)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return folder / "data"


@pytest.mark.long
@pytest.mark.parametrize("server", ["short-lived", "lasting"])
def test_ctrl_c_in_each_stage_ends_in_time_with_130_and_resume_goes_on(
    tmp_path: Path, uninterrupted: Path, server: str, request: pytest.FixtureRequest
) -> None:
    env = environment(tmp_path)
    if server == "lasting":
        up: Up = request.getfixturevalue("up")
        env |= {"PREFECT_API_URL": f"{up.url}/api", "PREFECT_API_AUTH_STRING": up.password}
    arguments = ["run", *LONG]
    for stage in MOMENTS:
        interrupt(env, stage, *arguments)
        arguments = ["resume"]
    command = [sys.executable, "-m", "cohobate", "resume"]
    resumed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert resumed.returncode == 0, resumed.stderr
    page = Path(resumed.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert page.is_file() and page.name == "index.html"
    assert {artifact.stage for artifact in Store(tmp_path / "data").all()} == set(STAGES)
    for stage in ("sft", "opd"):
        assert weights(tmp_path / "data", stage) == weights(uninterrupted, stage)


@pytest.mark.parametrize("seconds", [0.5, pytest.param(5.0, marks=pytest.mark.long)])
def test_ctrl_c_during_the_start_is_one_line_too(tmp_path: Path, seconds: float) -> None:
    """In the imports, or while the server of the run starts."""
    run = Terminal(environment(tmp_path), "run", *RECIPE)
    wait_while_running(run.process, lambda: "flows.distill" in command_line(run.process.pid))
    time.sleep(seconds)
    run.ctrl_c()
    assert run.process.returncode == 130 and "Traceback" not in run.text.decode(), run.lines
    assert "cohobate resume" in run.lines[-1]


def test_ctrl_c_ends_a_run_whose_server_does_not_answer_any_more(up: Up, tmp_path: Path) -> None:
    env = environment(tmp_path, PREFECT_API_URL=f"{up.url}/api", PREFECT_API_AUTH_STRING=up.password)
    run = Terminal(env, "run", *LONG)
    wait_while_running(run.process, lambda: any((tmp_path / "data").glob(MOMENTS["questions"])))
    server = up.child("server")
    os.killpg(server, signal.SIGSTOP)
    try:
        time.sleep(1)
        seconds = run.ctrl_c()
    finally:
        os.killpg(server, signal.SIGCONT)
    assert run.process.returncode == 130 and seconds < SECONDS, (seconds, run.lines)
    assert "cohobate resume" in run.lines[-1]
    [record] = (tmp_path / "data" / "runs").glob("*.json")
    assert json.loads(record.read_text())["status"] == "interrupted"


def test_the_short_lived_server_obeys_its_run_alone_and_dies_with_it(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *LONG)
    wait_while_running(process, lambda: any((tmp_path / "data").glob(MOMENTS["questions"])))
    [server] = [command_line(pid) for pid in children(process.pid) if "uvicorn" in command_line(pid)]
    port = server.partition("--port ")[2].split()[0]
    foreign = {"Origin": "https://other.example", "Content-Type": "application/json"}
    for path in ("flows/", "flow_runs/filter"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/{path}", b'{"name": "x"}', foreign)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code in (401, 403)
    asks = {**foreign, "Access-Control-Request-Method": "POST"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/flows/", headers=asks, method="OPTIONS")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.headers.get("access-control-allow-origin") is None
    servers = [pid for pid in children(process.pid) if "uvicorn" in command_line(pid)]
    process.kill()
    process.wait()
    wait_until_gone(servers)


def test_two_runs_of_one_recipe_build_each_artifact_once(tmp_path: Path) -> None:
    first = start(tmp_path, "run", *RECIPE, "--until", "sft")
    wait_while_running(first, lambda: any((tmp_path / "data").glob(MOMENTS["sft"])))
    first.send_signal(signal.SIGSTOP)  # so that the second comes while it builds, however slow the machine
    try:
        second = Terminal(environment(tmp_path), "run", *RECIPE, "--until", "sft")
        wait_while_running(second.process, lambda: b"is being built by process" in second.text)
    finally:
        first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=200)
    assert (first.returncode, second.process.wait(200)) == (0, 0), (said, second.lines)
    assert len(Store(tmp_path / "data").all()) == 3
    assert not Store(tmp_path / "data").partial()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
