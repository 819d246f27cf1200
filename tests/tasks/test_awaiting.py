"""A night whose teacher answers in batches: it ends as Awaiting, promotes nothing, and goes on later."""

from typing import Any

import pytest

from cohobate.config import Recipe
from tests.support.batch_server import BatchServer, Fate, billed
from tests.support.prefect_server import Up, small
from tests.support.wire_server import Act, Body, completion

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(420)]


def _recipe(server: BatchServer, seed: int) -> Recipe:
    teacher = {"kind": "endpoint", "model": "m", "base_url": server.url, "prompt": "{question}"}
    own: dict[str, Any] = {
        "teacher": {**teacher, "batch": True, "batch_wait": 0.0},
        "sft": {"select": "all"},
        "gate": {"failures": 1.0},
    }
    return small("opd.steps=0", f"questions.seed={seed}", **own)


def test_a_night_awaits_its_batch_and_goes_on(up: Up) -> None:
    def plan(body: Body, time: int) -> Act:
        return Act(payload=completion(body, "I add them.\nAnswer: 7"))

    server = BatchServer(plan, lambda number: Fate(delay=3600))
    with server.running():
        recipe = _recipe(server, 77).model_dump(mode="json", by_alias=True)
        recipe["name"] = "awaiting"
        night = up.run("nightly/nightly", recipe=recipe)
        state = up.end(night)
        assert (state["type"], state["name"]) == ("FAILED", "Awaiting") and "24 requests are under way" in state[
            "message"
        ]
        assert up.tasks(night) == {"questions": "Completed", "triples": "Awaiting"}
        assert "Nothing failed" in up.artifacts(night)["failure"]
        record = up.record(night)
        assert record and record["status"] == "awaiting"
        pointer = up.data / "promoted" / "awaiting.json"
        assert not pointer.exists() and not server.ran

        server.batches[0].fate.delay = 0.0
        assert up.command("resume", record["id"]).returncode == 0  # as Retry
        up.wait_for(lambda: up.state(night)["name"] != "Awaiting", "another attempt")
        up.end(night)
        assert (up.record(night) or {})["status"] in ("done", "failed")  # the gate's word on random answers
        assert len(server.batches) == 1 and billed(server) == {"requests": 24, "times": 1}


def test_failures_that_were_paid_are_not_submitted_again_by_a_retry(up: Up) -> None:
    def plan(body: Body, time: int) -> Act:
        return Act(payload=completion(body, finish_reason="content_filter", content=""))

    server = BatchServer(plan)
    with server.running():
        recipe = _recipe(server, 78).model_dump(mode="json", by_alias=True)
        recipe["name"] = "filtered"
        recipe["teacher"]["batch_wait"] = 0.1
        night = up.run("nightly/nightly", recipe=recipe)
        assert up.end(night)["type"] == "FAILED" and up.tasks(night)["triples"] == "Failed"
    assert len(server.batches) == 1
