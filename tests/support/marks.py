"""Marks say what a test does. One without any is fast, and fails when it trains, starts a process or listens.

`make fast` chooses the fast ones. tests/conftest.py loads this file as a plugin.
"""

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SLOW = ("browser", "families", "kill", "llama", "long", "network", "prefect", "serves", "slow", "trains", "vllm")
# What a fixture does in the name of every test that asks for it.
FIXTURES = {"finished": "trains", "start_artifacts": "trains", "server": "serves", "up": "prefect"}
# Programs that the code under test asks for facts.
HARMLESS = {"git"}


class Watch:
    """What has been done since `seen` was cleared; an audit hook, which Python keeps to its end."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.counts_steps = False
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind":
            self.seen.add("listens")
        elif event == "subprocess.Popen":
            program = Path(str(arguments[0])).name
            if program not in HARMLESS:
                self.seen.add(f"starts {program}")

    def count_steps(self) -> None:
        """Hear of optimizer steps too, once something has imported torch; LBFGS finds the minimum of a formula."""
        if "torch" in sys.modules and not self.counts_steps:
            from torch.optim import LBFGS
            from torch.optim.optimizer import register_optimizer_step_post_hook

            def step(optimizer: object, *_: object) -> None:
                if not isinstance(optimizer, LBFGS):
                    self.seen.add("trains")

            register_optimizer_step_post_hook(step)
            self.counts_steps = True


watch = Watch()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(FIXTURES[fixture])
        if not any(map(item.get_closest_marker, SLOW)):
            item.add_marker("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    watch.count_steps()
    watch.seen.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield
    if item.get_closest_marker("fast") and watch.seen:
        pytest.fail(f"unmarked, and it {' and '.join(sorted(watch.seen))}: mark what it does", pytrace=False)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where all tests were skipped, none was run: that is no success."""
    reporter: Any = session.config.pluginmanager.getplugin("terminalreporter")
    if exitstatus == 0 and reporter is not None and not {"passed", "xfailed"} & reporter.stats.keys():
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
