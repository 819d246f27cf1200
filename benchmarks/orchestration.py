"""Overhead of Prefect: `python -m benchmarks.orchestration [ROUNDS]`, default 5; needs Chromium.

Starts what `cohobate up` starts in a folder of its own, runs the tiny recipe once, and then ROUNDS times from the form
in the browser, with every stage in the store: seconds from the click to Completed, by part. Overhead of a stage: time
of its task beyond the stage's own work, and until the next task starts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from cohobate.store.artifacts import STAGES, Store
from tests.support.prefect_server import Up


def click(up: Up) -> tuple[str, float]:
    """Submit the form of the deployment `distill`; the run's id, and when it was clicked."""
    deployment = up.api("/deployments/name/distill/distill", method="GET")["id"]
    body = {"deployments": {"id": {"any_": [deployment]}}}
    before = {run["id"] for run in up.api("/flow_runs/filter", body)}
    with up.page(f"/deployments/deployment/{deployment}/run") as page:
        submit = page.get_by_role("button", name="Submit")
        submit.wait_for()
        page.wait_for_timeout(2000)  # a click on a form that is still loading submits nothing
        clicked = time.time()
        submit.click()
        new = up.wait_for(lambda: {run["id"] for run in up.api("/flow_runs/filter", body)} - before, "run")
    return new.pop(), clicked


def moments(up: Up, run: str) -> dict[str, float]:
    """When the run came into each state first, in seconds since the epoch."""
    states = up.api(f"/flow_run_states/?flow_run_id={run}", method="GET")
    times: dict[str, float] = {}
    for state in sorted(states, key=lambda each: str(each["timestamp"])):
        times.setdefault(state["name"], seconds(state["timestamp"]))
    return times


def seconds(timestamp: str) -> float:
    """Seconds since the epoch of a time of the API's."""
    return datetime.fromisoformat(timestamp).timestamp()


def stage_seconds(up: Up, run: str) -> float:
    """From the start of the first stage's task to the end of the last one's."""
    tasks: list[dict[str, Any]] = up.api("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return max(seconds(task["end_time"]) for task in tasks) - min(seconds(task["start_time"]) for task in tasks)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        up = Up(Path(folder))
        up.start()
        try:
            first, _ = click(up)
            up.completed(first, 300)
            work = sum(artifact.manifest.seconds for artifact in Store(up.data).all())
            print(f"stages built: {(stage_seconds(up, first) - work) / len(STAGES):.2f} s overhead a stage")
            rows = [measure(up) for _ in range(rounds)]
        finally:
            up.stop()
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:<32} median {median(values):6.2f} s   {min(values):.2f} to {max(values):.2f} s")


def measure(up: Up) -> dict[str, float]:
    """One run whose stages are all in the store."""
    run, clicked = click(up)
    up.completed(run)
    times = moments(up, run)
    assert set(up.tasks(run).values()) == {"Cached"}
    return {
        "click to Completed": times["Completed"] - clicked,
        "click to the worker taking it": times["Pending"] - clicked,
        "the process starts": times["Running"] - times["Pending"],
        "the flow runs": times["Completed"] - times["Running"],
        "a cached stage": stage_seconds(up, run) / len(STAGES),
    }


if __name__ == "__main__":
    main()
