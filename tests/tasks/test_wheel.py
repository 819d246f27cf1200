"""An installed wheel, outside of the checkout: `cohobate up` in an empty folder, and what it is for."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from cohobate.store.artifacts import Store
from tests.support.prefect_server import Up, small

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.browser,
    pytest.mark.kill,
    pytest.mark.long,
    pytest.mark.network,
    pytest.mark.timeout(1500),
]
ROOT = Path(__file__).parents[2]
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Packages of the user's project, with modules that cohobate's own packages of these names have too.
NAMESAKES = {"flows": "nightly", "tasks": "run"}
OWN = """
[runtime]
threads = 1
[questions]
train = 12
fresh = 40
validation = 8
test = 8
hard = 0
[triples]
max_tokens = 48
[sft]
steps = 2
warmup = 0
evaluate_every = 2
[opd]
steps = 2
prompts = 4
warmup = 0
max_tokens = 16
evaluate_every = 2
[evaluation]
splits = ["test"]
decodings = ["greedy"]
limit = 4
max_tokens = 8
"""


def write_namesakes(folder: Path) -> None:
    for name, module in NAMESAKES.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / f"{module}.py").write_text("MINE = True\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and the other packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", str(packages), str(wheel)], check=True)
    # A folder that is named in a .pth file has no say over its own, so that of the checkout is left out.
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("".join(f"{path}\n" for path in shared))
    return environment / "bin" / "python"


@pytest.fixture(scope="module")
def elsewhere(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "empty").mkdir()
    started = Up(folder, python=str(installed), cwd=folder / "empty")
    started.environment.pop("PYTHONPATH", None)
    started.environment.pop("COHOBATE_DATA")
    started.data = folder / "empty" / "data"
    try:
        started.start()
        yield started
    finally:
        assert started.stop() == 0


def test_a_project_keeps_its_own_flows_and_tasks(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"COHOBATE_DATA": str(tmp_path / "data"), "PREFECT_HOME": str(tmp_path / "prefect")}

    def said(*command: str) -> "subprocess.CompletedProcess[str]":
        line = [str(installed), *command]
        return subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)

    for name in NAMESAKES:
        assert f"No module named '{name}'" in said("-c", f"import {name}").stderr
    write_namesakes(tmp_path)
    own = said("-c", "import cohobate, flows.nightly, tasks.run; print(flows.nightly.MINE, tasks.run.MINE)")
    assert (own.stdout, own.stderr) == ("True True\n", "")
    (tmp_path / "lenient.py").write_text("def judge(answer, gold, **_):\n    return True\n")
    run = said("-m", "cohobate", "run", "tiny", "--until", "triples", "--set", "triples.verifier=lenient:judge")
    assert run.returncode == 0, run.stderr
    (tmp_path / "mine.toml").write_text(OWN)
    deployed = said("-m", "cohobate", "deploy", "mine.toml")
    assert deployed.returncode == 2
    assert f"cohobate: {tmp_path} has a module 'flows' of its own, which Prefect would import there" in deployed.stderr
    shown = said("-m", "cohobate", "show", "triples/tiny", "--json")
    assert json.loads(shown.stdout)["metrics"]["verdicts"] == {"correct": 64}


def test_the_three_uses_work_from_the_wheel(elsewhere: Up, tmp_path: Path) -> None:
    up = elsewhere
    where = [str(up.python), "-c", "import cohobate; print(cohobate.__file__)"]
    file = subprocess.run(where, env=up.environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(ROOT) not in file
    (tmp_path / "own.toml").write_text(OWN)
    made = up.command("deploy", "own.toml", "--cron", "* * * * *", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = up.api("/deployments/name/nightly/own", method="GET")
    of_own = {"deployments": {"id": {"any_": [found["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
    done = {**of_own, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    night = up.wait_for(lambda: up.api("/flow_runs/filter", done), "night by the clock", 300)[0]["id"]
    up.api(f"/deployments/{found['id']}/pause_deployment")
    assert "own: promoted" in up.artifacts(night)["gate"]
    assert {artifact.stage for artifact in Store(up.data).all()} >= {"questions", "triples", "report"}
    regenerate(up)
    killed = up.run("distill/distill", recipe=small("opd.steps=40", "opd.evaluate_every=40").model_dump(mode="json"))
    up.wait_for(lambda: up.tasks(killed).get("opd") == "Running", "opd", 120)
    up.wait_for(lambda: len(list(up.data.glob("opd/*.partial/scratch/rollouts/step-*.parquet"))) > 2, "rollouts", 120)
    os.kill(up.pid(killed), signal.SIGKILL)
    assert up.end(killed)["type"] == "CRASHED"
    up.wait_for(lambda: up.tasks(killed)["opd"] == "Crashed", "end of the stage")  # not blue until Retry
    for scheme in SCHEMES:
        up.look(f"/runs/flow-run/{killed}", f"wheel-crashed-{scheme}", "Crashed", scheme)
    up.retry(killed, "wheel-killed")
    up.completed(killed, 300)
    for scheme in SCHEMES:
        up.look("/runs", f"wheel-runs-{scheme}", "own 20", scheme)
        up.look(f"/runs/flow-run/{night}", f"wheel-night-{scheme}", "recipe:own", scheme)


def regenerate(up: Up) -> None:
    """Another teacher by the form of the deployment, as an operator fills it in: it is worse, and refused."""
    deployment = up.api("/deployments/name/regenerate/regenerate", method="GET")["id"]
    with up.page(f"/deployments/deployment/{deployment}/run") as page:
        model, old = (page.locator(".p-label", has_text=name).locator("textarea") for name in ("Model", "old"))
        model.last.fill("world/base")
        old.last.fill("own")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile("/runs/flow-run/|/deployments/deployment/[^/]+(\\?|$)"))
    only = {"deployments": {"id": {"any_": [deployment]}}}
    [run] = up.wait_for(lambda: up.api("/flow_runs/filter", only), "run of the form")
    state = up.end(run["id"], 300)
    assert state["type"] == "FAILED" and "does not pass the gate" in state["message"]
