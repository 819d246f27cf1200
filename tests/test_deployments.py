"""Server, worker and deployments as `make up` starts them: a real run through a process worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohobate.store import STAGES, Store
from tests.pipeline import SMALL

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(420)]


class Up:
    """`python -m tasks.up` on a free port, with a Prefect home and a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "COHOBATE_DATA": str(self.data),
        }
        self.log = folder / "up.log"
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "tasks.up"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def api(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.load(reply)

    def wait_for(self, condition: Any, what: str, seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            found = condition()
            if found:
                return found
            time.sleep(1)
        raise AssertionError(f"no {what} within {seconds} s:\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = Up(tmp_path_factory.mktemp("up"))
    try:
        started.wait_for(lambda: "Ctrl+C stops" in started.log.read_text(), "worker")
        yield started
    finally:
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(timeout=60) == 0


def test_a_deployment_runs_the_recipe_on_the_worker(up: Up) -> None:
    deployment = up.api("/deployments/name/distill/distill", method="GET")
    recipe = up.data.parent / "tiny.toml"
    recipe.write_text(tiny_with(SMALL))
    run = up.api(
        f"/deployments/{deployment['id']}/create_flow_run",
        {"parameters": {"recipe": str(recipe), "until": "report"}, "state": {"type": "SCHEDULED"}},
    )
    final = up.wait_for(lambda: ended(up, run["id"]), "end of the run")
    assert final["state"]["type"] == "COMPLETED", final["state"]
    made = {artifact.stage: artifact for artifact in Store(up.data).all()}
    assert set(made) == set(STAGES)
    assert (made["report"].path / "index.html").is_file()


def test_the_nightly_deployment_gets_its_runs_scheduled(up: Up) -> None:
    """With SQLAlchemy 2.1 the server runs and schedules nothing: this is what the pin is for."""
    deployment = up.api("/deployments/name/distill/nightly", method="GET")
    only = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = up.wait_for(lambda: up.api("/flow_runs/filter", only), "scheduled run")
    assert all(run["next_scheduled_start_time"][11:16] == "02:00" for run in runs)


def tiny_with(overrides: list[str]) -> str:
    """The tiny recipe with `overrides`, as TOML."""
    from cohobate.recipes import load_recipe

    def value(item: Any) -> str:
        return json.dumps(item) if not isinstance(item, bool) else str(item).lower()

    lines = []
    for section, fields in load_recipe("tiny", overrides).model_dump(exclude_defaults=True).items():
        if isinstance(fields, dict):
            lines += [f"[{section}]", *(f"{name} = {value(item)}" for name, item in fields.items())]
    return "\n".join(lines) + "\n"


def ended(up: Up, run: str) -> Any:
    found = up.api(f"/flow_runs/{run}", method="GET")
    return found if found["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None
