"""An installed wheel, outside of the checkout: `cohobate up` in an empty folder, and what it is for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cohobate.store.artifacts import Store
from tests.support.prefect_server import Up, small

pytestmark = [pytest.mark.prefect, pytest.mark.long, pytest.mark.network, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


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


def test_the_three_uses_work_from_the_wheel(elsewhere: Up, tmp_path: Path) -> None:
    up = elsewhere
    where = [str(up.python), "-c", "import cohobate, flows; print(cohobate.__file__, flows.__file__)"]
    files = subprocess.run(where, env=up.environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(ROOT) not in files
    night = up.run("nightly/nightly", recipe=small().model_dump(mode="json"))
    up.completed(night, 300)
    assert "tiny: promoted" in up.artifacts(night)["gate"]
    assert {artifact.stage for artifact in Store(up.data).all()} >= {"questions", "triples", "report"}
    teacher = {"model": "world/teacher", "prompt": "{question} Be brief."}
    up.completed(up.run("regenerate/regenerate", old="tiny", teacher=teacher, allow=1.0), 300)
    (tmp_path / "own.toml").write_text("[questions]\ntrain = 4\n")
    made = up.command("deploy", "own.toml", "--cron", "* * * * *", "--flow", "distill", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = up.api("/deployments/name/distill/own", method="GET")
    only = {"deployments": {"id": {"any_": [found["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    up.wait_for(lambda: up.api("/flow_runs/filter", only), "run by the clock", 180)
