"""Fixtures that several test files share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# One thread a process: tests start several, and threads that wait for each other cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

# A shell starts what runs behind it deaf to Ctrl+C, and so would be all programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from tests.support.pipeline import SMALL, Finished, run_stages

pytest_plugins = ["tests.support.marks"]

# A busy machine is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if TYPE_CHECKING:
    from tests.support.prefect_server import Up
    from tests.support.wire_server import WireServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start servers and kill processes come first: begun last, one of them would keep the others waiting."""
    slow = {item.path for item in items if any(map(item.get_closest_marker, ("kill", "prefect", "vllm")))}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of this test's own."""
    root = tmp_path / "data"
    monkeypatch.setenv("COHOBATE_DATA", str(root))
    return root


@pytest.fixture
def server() -> Iterator["WireServer"]:
    """A server of OpenAI's wire that listens while the test runs, and does what its `plan` says."""
    from tests.support.wire_server import WireServer

    with WireServer().running() as it:
        yield it


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """The shipped tiny recipe, made a little smaller still."""
    return load_recipe("tiny", SMALL)


@pytest.fixture(scope="session")
def finished(tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """All stages of `tiny`, run once without interruption; read-only for the tests."""
    root = tmp_path_factory.mktemp("finished")
    before = os.environ.get("COHOBATE_DATA")
    os.environ["COHOBATE_DATA"] = str(root)
    try:
        return Finished(root, run_stages(tiny))
    finally:
        if before is None:
            del os.environ["COHOBATE_DATA"]
        else:
            os.environ["COHOBATE_DATA"] = before


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Up"]:
    """A Prefect server with a worker and all deployments, for every test that needs one."""
    from tests.support.prefect_server import Up

    started = Up(tmp_path_factory.mktemp("up"))
    try:
        started.start()
        yield started
    finally:
        assert started.stop() == 0
