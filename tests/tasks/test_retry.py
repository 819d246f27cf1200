"""Retry in the Prefect UI, clicked in a real browser: a failed stage goes on where it stopped.

Pictures of the pages are kept in the test's folder, or in COHOBATE_SCREENSHOTS.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.store.artifacts import Artifact, Store
from tests.support.prefect_server import LOST_SECONDS, Up, small
from tests.support.wire_server import Act, Body, WireServer, error

pytestmark = [pytest.mark.prefect, pytest.mark.kill, pytest.mark.browser, pytest.mark.timeout(420)]

QUESTIONS = 48


class Teacher:
    """A wire server that a test can make slow, or refuse the key."""

    def __init__(self) -> None:
        self.delay, self.refuse_after = 0.01, 10**9
        self.server = WireServer(self.plan)

    def plan(self, body: Body, time: int) -> Act:
        if len(self.server.seen) > self.refuse_after:
            return error(401, "this key has expired")
        return Act(delay=self.delay)

    def paid(self) -> Counter[str]:
        """How often each request was answered."""
        return Counter(seen.key for seen in self.server.seen if seen.status == 200 and seen.answered)

    def recipe(self, seed: int) -> Recipe:
        teacher = {"kind": "endpoint", "model": "m", "base_url": self.server.url, "prompt": "{question}"}
        triples = {"concurrency": 1, "seed": seed}
        return small(
            "opd.steps=0", f"questions.train={QUESTIONS}", f"questions.seed={seed}", teacher=teacher, triples=triples
        )


@pytest.fixture(scope="module")
def teacher() -> Iterator[Teacher]:
    made = Teacher()
    with made.server.running():
        yield made


def made_by(up: Up, stage: str, since: float) -> Artifact:
    """The artifact of a stage that was finished last, after `since`."""
    [*_, artifact] = [each for each in Store(up.data).all() if each.stage == stage]
    assert (artifact.path / "manifest.json").stat().st_mtime > since
    return artifact


@dataclass
class Lost:
    """A run whose worker and process were killed, and the server that answers its requests.

    healthy: a run that is at work for longer than a lost one is let be. slept: one whose process is stopped, as when a
    laptop is shut.
    """

    run: str
    healthy: str
    slept: str
    teacher: Teacher
    killed: float


@pytest.fixture(scope="module")
def lost(up: Up) -> Iterator[Lost]:
    """Killed before the other tests of this file run: until it is noticed, they have a minute."""
    teacher = Teacher()
    with teacher.server.running():
        distill = up.api("/deployments/name/distill/distill", method="GET")
        up.api("/work_pools/", {"name": "node", "type": "process"})
        kept = ("flow_id", "entrypoint", "path", "pull_steps", "parameter_openapi_schema", "enforce_parameter_schema")
        up.api("/deployments/", {"name": "node", "work_pool_name": "node", **{name: distill[name] for name in kept}})
        teacher.delay = 0.1
        with up.worker("node") as worker:
            run = up.run("distill/node", recipe=teacher.recipe(3).model_dump(mode="json"), until="triples")
            up.wait_for(lambda: len(teacher.server.seen) >= QUESTIONS // 3, "requests")
            os.kill(worker.pid, signal.SIGKILL)
            os.kill(up.pid(run), signal.SIGKILL)
        teacher.delay = 0.01
        slow, sleeping = Teacher(), Teacher()
        slow.delay, sleeping.delay = 1.5 * LOST_SECONDS / QUESTIONS, 0.2
        with slow.server.running(), sleeping.server.running():
            slept = up.run("distill/distill", recipe=sleeping.recipe(5).model_dump(mode="json"), until="triples")
            up.wait_for(lambda: len(sleeping.server.seen) > 2, "requests")
            os.kill(up.pid(slept), signal.SIGSTOP)
            healthy = up.run("distill/distill", recipe=slow.recipe(4).model_dump(mode="json"), until="triples")
            yield Lost(run, healthy, slept, teacher, time.monotonic())


def test_after_a_stage_raised(up: Up, lost: Lost, teacher: Teacher) -> None:
    started, teacher.refuse_after = time.time(), QUESTIONS // 2
    run = up.run("distill/distill", recipe=teacher.recipe(1).model_dump(mode="json"), until="triples")
    state = up.end(run)
    assert state["type"] == "FAILED" and "this key has expired" in state["message"]
    assert up.tasks(run) == {"questions": "Completed", "triples": "Failed"}
    assert "this key has expired" in up.artifacts(run)["failure"].splitlines()[0]
    teacher.refuse_after = 10**9
    up.retry(run, "raised")
    up.completed(run)
    assert up.tasks(run) == {"questions": "Cached", "triples": "Completed"}
    assert up.api(f"/flow_runs/{run}", method="GET")["run_count"] == 2
    assert sorted(teacher.paid().values()) == [1] * QUESTIONS
    assert made_by(up, "triples", started).manifest.rows == QUESTIONS
    up.look(f"/runs/flow-run/{run}", "raised-after", "Completed")


def test_after_the_process_was_killed_in_opd(up: Up, lost: Lost) -> None:
    started = time.time()
    recipe = small("opd.steps=24", "opd.snapshot_every=2", "opd.seed=7", "questions.seed=7")
    run = up.run("distill/distill", recipe=recipe.model_dump(mode="json"), until="opd")
    log = "opd/*.partial/scratch/rollouts/step-*.parquet"
    up.wait_for(lambda: len(list(up.data.glob(log))) >= 3, "step of opd")
    os.kill(up.pid(run), signal.SIGKILL)
    # The names of an inode: a step that is made again is another file.
    steps = {path.name: path.stat().st_ino for path in up.data.glob(log)}
    assert len(steps) < 24
    assert up.end(run)["type"] == "CRASHED"
    up.wait_for(lambda: up.tasks(run)["opd"] == "Crashed", "end of the stage")  # not blue until Retry
    up.retry(run, "killed")
    up.wait_for(lambda: len(list(up.data.glob(log))) > len(steps), "further step of opd")
    assert {path.name: path.stat().st_ino for path in up.data.glob(log) if path.name in steps} == steps
    up.completed(run)
    assert up.tasks(run) == {**dict.fromkeys(("questions", "triples", "sft"), "Cached"), "opd": "Completed"}
    rollouts = pl.read_parquet(made_by(up, "opd", started).path / "rollouts.parquet")
    assert rollouts.group_by("step").len().sort("step").rows() == [(step, 4 * 2) for step in range(24)]
    record = up.record(run)
    assert record and record["status"] == "done" and len(record["artifacts"]) == 4
    up.look(f"/runs/flow-run/{run}", "killed-after", "Completed")


def test_after_worker_and_process_were_killed(up: Up, lost: Lost) -> None:
    """Nobody is left who could say that the run has ended; the automation does, and Retry goes on."""
    started = time.time()
    assert up.end(lost.run, seconds=2 * LOST_SECONDS)["type"] == "CRASHED"
    paid = lost.teacher.paid()
    assert 0 < len(paid) < QUESTIONS
    with up.worker("node"):
        up.retry(lost.run, "lost")
        up.completed(lost.run)
    assert up.tasks(lost.run) == {"questions": "Cached", "triples": "Completed"}
    again = lost.teacher.paid() - paid
    # The one request that was on its way when the process died may be asked again, and no other.
    assert len(lost.teacher.paid()) == QUESTIONS and again.total() <= QUESTIONS - len(paid) + 1
    assert made_by(up, "triples", started).manifest.rows == QUESTIONS
    up.look(f"/runs/flow-run/{lost.run}", "lost-after", "Completed")


def test_a_run_that_was_taken_for_lost_and_is_not_goes_on_as_running(up: Up, lost: Lost) -> None:
    assert up.end(lost.slept)["type"] == "CRASHED"
    os.kill(up.pid(lost.slept), signal.SIGCONT)
    up.wait_for(lambda: up.state(lost.slept)["type"] == "RUNNING", "sign of life")
    up.completed(lost.slept)
    assert up.tasks(lost.slept) == {"questions": "Completed", "triples": "Completed"}


def test_a_long_stage_is_not_taken_for_lost(up: Up, lost: Lost) -> None:
    up.completed(lost.healthy)
    run = up.api(f"/flow_runs/{lost.healthy}", method="GET")
    assert run["total_run_time"] > LOST_SECONDS and run["run_count"] == 1
    states = up.api(f"/flow_run_states/?flow_run_id={lost.healthy}", method="GET")
    assert "CRASHED" not in {state["type"] for state in states}


def test_the_pictures_are_there(up: Up) -> None:
    folder = Path(os.environ.get("COHOBATE_SCREENSHOTS") or up.folder / "screenshots")
    wanted = {f"{name}-{moment}.png" for name in ("raised", "killed", "lost") for moment in ("before", "after")}
    assert wanted <= {path.name for path in folder.iterdir()}
