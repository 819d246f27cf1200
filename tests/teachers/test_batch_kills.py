"""A program that is killed anywhere on the way of a batch: another pays for nothing again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.store.artifacts import Store
from tests.support.batch_server import ONCE, ROWS, BatchServer, Fate, batch_recipe, billed
from tests.support.processes import wait_while_running
from tests.support.triples_stage import table

pytestmark = [pytest.mark.serves, pytest.mark.kill]


def start(recipe: Recipe, root: Path) -> subprocess.Popen[bytes]:
    """The questions and triples of `recipe`, as a program of its own."""
    command = [sys.executable, "-m", "tests.support.endpoint_recipe", recipe.model_dump_json()]
    environment = {**os.environ, "COHOBATE_DATA": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# A creation that did not arrive is looked for until the server has had its time, ten seconds: `long`.
@pytest.mark.parametrize(
    ("route", "done"),
    [
        ("upload", False),
        ("upload", True),
        pytest.param("create", False, marks=pytest.mark.long),
        ("create", True),
        ("retrieve", True),
        ("content", False),
        ("content", True),
    ],
)
def test_a_kill_costs_nothing(route: str, done: bool, batches: BatchServer, tmp_path: Path) -> None:
    """At each call: before the server has carried it out, or after that, with its reply on the way."""
    # Another batch for what the first leaves, so that a kill also meets files that were read before.
    batches.fate = lambda number: Fate(status="expired", ran=7) if number == 1 else Fate(delay=0.3)
    root, recipe = tmp_path / "data", batch_recipe(tmp_path, batches)
    process = start(recipe, root)
    with batches.holding(route, done=done) as reached:
        wait_while_running(process, reached.is_set)
        process.kill()
        process.wait()
    assert start(recipe, root).wait() == 0
    assert billed(batches) == ONCE and len(batches.batches) == 2
    [made] = [artifact for artifact in Store(root).all() if artifact.stage == "triples"]
    assert len(table(made)) == ROWS


@pytest.mark.parametrize("route", ["retrieve", "content"])
def test_an_interrupt_ends_the_wait_at_once(route: str, batches: BatchServer, tmp_path: Path) -> None:
    """During a call that hangs too; what was submitted is found again."""
    root, recipe = tmp_path / "data", batch_recipe(tmp_path, batches)
    process = start(recipe, root)
    with batches.holding(route, done=False) as reached:
        wait_while_running(process, reached.is_set)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
    assert start(recipe, root).wait() == 0
    assert billed(batches) == ONCE and len(batches.batches) == 1


def test_two_runs_at_once_submit_what_both_need_once(batches: BatchServer, tmp_path: Path) -> None:
    """And the second goes on with the batch of the first when that ends as awaiting."""
    root = tmp_path / "data"
    batches.fate = lambda number: Fate(delay=3600)
    first = start(batch_recipe(tmp_path, batches, teacher={"batch_wait": 2 / 3600}), root)
    wait_while_running(first, lambda: batches.batches)
    second = start(batch_recipe(tmp_path, batches, ROWS + 3, teacher={"batch_wait": 0.1}), root)
    assert first.wait() != 0
    wait_while_running(second, lambda: len(batches.batches) == 2)
    for batch in batches.batches:
        batch.fate.delay = 0.0
    assert second.wait() == 0
    assert [len(batch.lines) for batch in batches.batches] == [ROWS, 3]
    assert billed(batches) == {"requests": ROWS + 3, "times": 1}


@pytest.mark.long
def test_kills_at_every_call_of_one_run_cost_nothing(batches: BatchServer, tmp_path: Path) -> None:
    """The n-th run is killed at its n-th call, until one comes to its end."""
    batches.fate = lambda number: Fate(status="expired", ran=5) if number < 3 else Fate(delay=0.5)
    root, recipe = tmp_path / "data", batch_recipe(tmp_path, batches, teacher={"batch_requests": 4})
    calls = 0
    while True:
        calls += 1
        before = sum(batches.calls.values())
        process = start(recipe, root)
        while process.poll() is None and sum(batches.calls.values()) < before + calls:
            time.sleep(0.002)
        process.kill()
        if process.wait() == 0:
            break
    assert calls > 5 and billed(batches) == ONCE
