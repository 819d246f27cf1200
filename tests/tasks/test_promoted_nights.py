"""Nights from the promoted student on a real server, with probes that are asked before anything else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.nights import Nights, number_asked
from tests.support.prefect_server import Up
from tests.support.wire_server import Act, Body, completion

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(900)]
PROBES = 8


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    made = Nights(tmp_path_factory.mktemp("continued"), "continued")
    with made.server.running():
        yield made


def recipe(nights: Nights, **teacher: Any) -> dict[str, Any]:
    return nights.recipe(probes=PROBES, **teacher) | {"nightly": {"from": "promoted"}}


def other(body: Body, time: int = 1) -> Act:
    return Act(completion(body, f"Another model adds one.\nAnswer: {number_asked(body) + 9}"))


def promoted(up: Up) -> dict[str, str]:
    values: dict[str, str] = json.loads((up.data / "promoted" / "continued.json").read_text())["artifacts"]
    return values


def numbers(nights: Nights, since: int, *, greedy: bool) -> list[int]:
    """The questions asked since that many requests, as a probe or for the triples."""
    seen = [each.body for each in nights.server.seen[since:] if (each.body["temperature"] == 0) is greedy]
    return sorted(map(number_asked, seen))


def says(up: Up, run: str, line: str) -> None:
    """Wait until the log of a run, which is sent in pieces, has the line."""
    chosen = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
    up.wait_for(
        lambda: any(line in each["message"] for each in up.api("/logs/filter", chosen)), f"the line {line!r}", 30
    )


def test_nights_learn_what_is_new_until_another_model_answers(up: Up, nights: Nights) -> None:
    first_run = up.run("nightly/nightly", recipe=recipe(nights))
    up.completed(first_run)
    says(up, first_run, "no student of continued is promoted yet, so this night is a full run")
    first, probed = promoted(up), numbers(nights, 0, greedy=True)
    assert len(probed) == 3 * PROBES and numbers(nights, 0, greedy=False) == [*range(40)]

    nights.ask(44)
    since = len(nights.server.seen)
    second_run = up.run("nightly/nightly", recipe=recipe(nights))
    up.completed(second_run)
    second = promoted(up)
    assert numbers(nights, since, greedy=False) == [40, 41, 42, 43]
    assert numbers(nights, since, greedy=True) == sorted(set(probed))
    assert set(first.values()).isdisjoint(second.values())
    says(up, second_run, f"0 of {PROBES} probes of endpoint/continued@unknown differ")
    says(
        up,
        second_run,
        f"night: 4 new triples and 4 old ones, 0 new fresh questions and 0 old ones; from {first['opd']}",
    )
    [_, *checks] = json.loads(up.artifacts(second_run)["gate"])
    measures = [row["check"] for row in checks]
    assert "probes that differ, endpoint/continued@unknown, teacher" in measures
    assert "accuracy of opd (before: promoted) on test, greedy, student" in measures

    idle_run = up.run("nightly/nightly", recipe=recipe(nights))
    up.completed(idle_run)
    says(up, idle_run, f"there is no new row to learn, so {second['opd']} stays as it is")
    assert promoted(up) == second

    nights.ask(48)
    nights.server.plan = other
    since = len(nights.server.seen)
    changed_run = up.run("nightly/nightly", recipe=recipe(nights))
    state = up.end(changed_run)
    assert state["type"] == "FAILED" and f"{PROBES} of {PROBES} probes" in state["message"], state
    assert "set teacher.revision" in state["message"] and promoted(up) == second
    assert numbers(nights, since, greedy=False) == []
    assert json.loads(up.artifacts(changed_run)["probes"])[0]["verdict"] == "refused"
    assert json.loads(up.artifacts(changed_run)["gate"])[0]["check"] == "continued: refused"

    since = len(nights.server.seen)
    teacher = {name: nights.recipe()["teacher"][name] for name in ("kind", "model", "base_url", "api_key_env")}
    up.completed(up.run("regenerate/regenerate", old="continued", teacher=teacher | {"revision": "two"}, allow=1.0))
    assert numbers(nights, since, greedy=False) == [*range(44)]
    assert promoted(up)["triples"] != second["triples"] and promoted(up)["opd"] == second["opd"]
