"""Nights that must not be promoted, on a real server: wrong new rows, failed ones, undecided answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohobate.store.artifacts import Artifact, Store
from tests.support.nights import Nights, number_asked, right
from tests.support.prefect_server import Up
from tests.support.wire_server import Act, Body, completion, error

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(900)]


def cut(body: Body) -> Act:
    return Act(completion(body, "It is one more than", finish_reason="length"))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    """Whose questions are 34, each answered right."""
    made = Nights(tmp_path_factory.mktemp("gated"), "gated")
    made.ask(34)
    with made.server.running():
        yield made


def triples(up: Up) -> list[Artifact]:
    return [each for each in Store(up.data).all() if each.stage == "triples" and each.id.startswith("triples/gated-")]


def promoted(up: Up) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((up.data / "promoted" / "gated.json").read_text())["artifacts"]
    return values


def table(up: Up, run: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(up.artifacts(run)["gate"])
    return rows


def test_failed_rows_are_asked_again_and_wrong_ones_are_refused(up: Up, nights: Nights) -> None:
    up.completed(up.run("nightly/nightly", recipe=nights.recipe()))
    first = promoted(up)
    assert len(nights.server.seen) == 34

    nights.ask(38)
    broken = error(400, "the model is away")
    nights.server.plan = lambda body, time: right(body) if number_asked(body) < 34 else broken
    run = up.run("nightly/nightly", recipe=nights.recipe())
    state = up.end(run)
    assert state["type"] == "FAILED" and "of 4 requests have failed" in state["message"], state
    assert promoted(up) == first
    nights.server.plan = lambda body, time: right(body)
    asked = len(nights.server.seen)
    record = up.record(run)
    assert record and up.command("resume", record["id"]).returncode == 0
    up.completed(run)
    assert sorted(number_asked(seen.body) for seen in nights.server.seen[asked:]) == [34, 35, 36, 37]
    second = promoted(up)
    assert second["triples"] != first["triples"]
    [verdict, *checks] = table(up, run)
    assert verdict["check"] == "gated: promoted" and {row["verdict"] for row in checks} == {"passed"}

    nights.ask(98)
    nights.server.plan = lambda body, time: right(body) if number_asked(body) < 38 else Act()
    run = up.run("nightly/nightly", recipe=nights.recipe())
    state = up.end(run)
    assert state["type"] == "FAILED", state
    assert "of the 60 new questions the pass rate is lower by 100.0%" in state["message"]
    assert promoted(up) == second
    [verdict, *checks] = table(up, run)
    refused = {row["check"]: row for row in checks if row["verdict"] == "refused"}
    assert verdict["check"] == "gated: refused"
    assert refused["pass rate, new questions"]["now"] == "0.0%"
    assert {row["verdict"] for row in checks if "shared questions" in row["check"]} == {"passed"}
    assert up.command("resume", str((up.record(run) or {})["id"])).returncode == 0  # Retry changes nothing
    assert up.end(run)["type"] == "FAILED" and promoted(up) == second

    [*_, old, new] = triples(up)
    assert old.id == second["triples"]
    by_hand = up.command("diff", old.id, new.id, "--gate")
    assert by_hand.returncode == 3 and "of the 60 new questions the pass rate is lower by" in by_hand.stderr
    assert up.command("diff", old.id, new.id).returncode == 0


def test_undecided_in_place_of_correct_is_refused(up: Up, nights: Nights) -> None:
    """The old answers are all correct; those of the new prompt are cut, and no answer is found in them."""
    old = promoted(up)["triples"]
    nights.server.plan = lambda body, time: cut(body)
    teacher = {name: nights.recipe()["teacher"][name] for name in ("kind", "model", "base_url", "api_key_env")}
    run = up.run("regenerate/regenerate", old=old, teacher=teacher | {"prompt": "{question} Think first."})
    state = up.end(run)
    assert state["type"] == "FAILED" and "the correct share is lower by 100.0%" in state["message"], state
    [new] = [each for each in triples(up) if "Think first" in each.manifest.config["teacher"]["prompt"]]
    by_hand = up.command("diff", old, new.id, "--gate", "--json")
    assert by_hand.returncode == 3
    assert json.loads(by_hand.stdout)["shared"]["worsened"] == 38
    assert Path(up.data / "promoted" / "gated.json").is_file() and promoted(up)["triples"] == old
