"""The deployments of prefect.yaml, run by a real server and worker: what they make, promote, refuse, and say."""

import json
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from cohobate.config import Recipe
from cohobate.store.artifacts import STAGES, Store
from tests.support.nights import Nights
from tests.support.prefect_server import GPU_SLOTS, LOST_SECONDS, SECRETS, Up, small
from tests.support.wire_server import Act, WireServer

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(420)]


def as_json(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json")


def test_up_is_idempotent_and_says_what_is_there(up: Up) -> None:
    before = {kind: up.api(f"/{kind}/filter", {}) for kind in ("automations", "deployments")}
    again = up.command("up")
    assert again.returncode == 0 and "up already" in again.stdout, again.stderr
    after = {kind: up.api(f"/{kind}/filter", {}) for kind in ("automations", "deployments")}
    for kind, rows in before.items():
        assert {row["id"] for row in rows} == {row["id"] for row in after[kind]}
    assert up.api("/v2/concurrency_limits/gpu", method="GET")["limit"] == GPU_SLOTS
    status = up.command("up", "--status")
    assert status.returncode == 0, status.stdout
    for expected in (
        "worker      online",
        f"of {GPU_SLOTS} in use",
        "nightly (0 2 * * * UTC)",
        "regenerate",
        "evaluate",
    ):
        assert expected in status.stdout


def test_the_nightly_deployment_gets_its_runs_scheduled(up: Up) -> None:
    """With SQLAlchemy 2.1 the server runs and schedules nothing: this is what the pin is for."""
    deployment = up.api("/deployments/name/nightly/nightly", method="GET")
    only = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = up.wait_for(lambda: up.api("/flow_runs/filter", only), "scheduled run")
    assert all(run["next_scheduled_start_time"][11:16] == "02:00" for run in runs)


@pytest.mark.browser
def test_a_run_page_tells_what_came_out(up: Up) -> None:
    run = up.run("distill/distill", recipe=as_json(small()))
    up.completed(run)
    assert up.tasks(run) == dict.fromkeys(STAGES, "Completed")
    told, made = up.artifacts(run), Store(up.data).all()
    assert set(told) == {*STAGES, "artifacts", "summary"}
    values = up.api(f"/flow_runs/{run}", method="GET")
    assert re.fullmatch(r"tiny \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", values["name"])
    assert {"recipe:tiny", "student:world/base", "teacher:world/teacher"} <= set(values["tags"])
    found = up.api("/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert all(each["description"] for each in found if each["key"])
    links = {str(each["description"]): each["data"] for each in found if "The page of" in str(each["description"])}
    assert [text.split()[3].split("/")[0] for text in sorted(links)] == ["report", "triples"]
    for text in links.values():
        [address] = re.findall(r"\((http[^)]*)\)", text)
        with urllib.request.urlopen(address, timeout=60) as page_file:
            assert page_file.read(15).lower() == b"<!doctype html>"
    curves = {each["description"]: each["data"] for each in found if "curves" in str(each["description"])}
    assert set(curves) == {"The curves of sft so far.", "The curves of opd so far."}
    assert "| reverse KL | 2 |" in curves["The curves of opd so far."]
    paths = {row["path"] for row in json.loads(told["artifacts"])}
    assert paths <= {str(artifact.path) for artifact in made}  # other runs have made some too
    assert {path.split("/")[-2] for path in paths} == set(STAGES)
    [report] = [artifact for artifact in made if artifact.stage == "report" and str(artifact.path) in paths]
    assert f"`{report.path / 'index.html'}`" in told["summary"]
    own = {"artifacts": {"key": {"any_": ["summary"]}}, "flow_runs": {"id": {"any_": [run]}}}
    [summary] = up.api("/artifacts/filter", own)
    with up.page(f"/artifacts/artifact/{summary['id']}") as page:
        page.get_by_text("What came out").wait_for()
        figure = page.locator("img").first
        figure.scroll_into_view_if_needed()
        assert figure.evaluate("image => image.naturalWidth") > 100
        up.picture(page, "summary")


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    made = Nights(tmp_path_factory.mktemp("nights"))
    with made.server.running():
        yield made


def test_the_nightly_run_rebuilds_what_changed_and_pays_for_nothing_else(up: Up, nights: Nights) -> None:
    first = up.run("nightly/nightly", recipe=nights.recipe())
    up.completed(first)
    assert len(nights.server.seen) == 40
    assert "nights: promoted" in up.artifacts(first)["gate"]
    overlapping = [up.run("nightly/nightly", recipe=nights.recipe()) for _ in range(2)]
    for run in overlapping:
        up.completed(run)
        assert up.tasks(run) == {**dict.fromkeys(STAGES, "Cached"), "gate": "Completed"}
        assert "nights: unchanged" in up.artifacts(run)["gate"]
    assert len(nights.server.seen) == 40
    assert_one_at_a_time(up, overlapping)
    nights.ask(90)
    more = up.run("nightly/nightly", recipe=nights.recipe())
    up.completed(more)
    assert len(nights.server.seen) == len(set(nights.server.keys)) == 90
    assert {seen.headers["Authorization"] for seen in nights.server.seen} == {f"Bearer {SECRETS[1]}"}
    pointer = json.loads((up.data / "promoted" / "nights.json").read_text())
    [*_, newest] = [artifact.id for artifact in Store(up.data).all() if artifact.stage == "triples"]
    assert pointer["artifacts"]["triples"] == newest
    promoted = [row["id"] for row in json.loads(up.command("ls", "--json").stdout) if row["promoted"]]
    assert sorted(promoted) == sorted(pointer["artifacts"].values())


def assert_one_at_a_time(up: Up, runs: list[str]) -> None:
    """The runs did not work at the same time, and one of them waited in the queue."""
    spans, waited = [], []
    for run in runs:
        states = up.api(f"/flow_run_states/?flow_run_id={run}", method="GET")
        times = {state["type"]: datetime.fromisoformat(state["timestamp"]) for state in states}
        spans.append((times["RUNNING"], times["COMPLETED"]))
        waited += [state["name"] for state in states if state["name"] == "AwaitingConcurrencySlot"]
    (_, first_ended), (second_began, _) = sorted(spans)
    assert first_ended <= second_began and waited


@pytest.mark.browser
def test_regenerate_from_the_form_compares_and_the_gate_decides(up: Up) -> None:
    recipe = small("name=form", "questions.seed=5")
    up.completed(up.run("distill/distill", recipe=as_json(recipe), until="triples"))
    [old] = [artifact for artifact in Store(up.data).all() if artifact.id.startswith("triples/form-")]
    deployment = up.api("/deployments/name/regenerate/regenerate", method="GET")["id"]
    with up.page(f"/deployments/deployment/{deployment}/run") as page:
        model, old_dataset = (page.locator(".p-label", has_text=name).locator("textarea") for name in ("Model", "old"))
        model.last.fill("world/base")
        old_dataset.last.fill("form")
        up.picture(page, "form")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile("/runs/flow-run/|/deployments/deployment/[^/]+(\\?|$)"))
    only = {"deployments": {"id": {"any_": [deployment]}}}
    [run] = up.wait_for(lambda: up.api("/flow_runs/filter", only), "run of the form")
    state = up.end(run["id"])
    assert state["type"] == "FAILED" and "does not pass the gate" in state["message"]
    [new] = [a for a in Store(up.data).all() if a.id.startswith("triples/form-") and a.id != old.id]
    told = up.artifacts(run["id"])
    assert "form: refused" in told["gate"] and "the correct share is lower by" in told["gate"]
    assert told["diff"].startswith(f"## {old.id} → {new.id}")
    assert not (up.data / "promoted" / "form.json").exists()
    assert up.wait_for(lambda: [text for text in up.webhook.texts if "does not pass the gate" in text], "message")
    [found] = up.api(
        "/artifacts/filter", {"artifacts": {"key": {"any_": ["diff"]}}, "flow_runs": {"id": {"any_": [run["id"]]}}}
    )
    up.look(f"/artifacts/artifact/{found['id']}", "diff", "Largest changes")
    terse = {"model": "world/teacher", "prompt": "{question} Be terse."}
    up.completed(up.run("regenerate/regenerate", old=old.id, teacher=terse, allow=1.0))
    pointer = json.loads((up.data / "promoted" / "form.json").read_text())
    [promoted] = [a for a in Store(up.data).all() if a.id == pointer["artifacts"]["triples"]]
    assert promoted.id not in (old.id, new.id)
    assert promoted.manifest.config["teacher"]["prompt"] == terse["prompt"]


def test_any_checkpoint_can_be_evaluated(up: Up) -> None:
    [model] = [artifact for artifact in Store(up.data).all() if artifact.id.startswith("sft/tiny-")]
    run = up.run("evaluate/evaluate", checkpoint=str(model.path / "model"), recipe=as_json(small("evaluation.seed=3")))
    up.completed(run)
    [*_, scores] = [artifact for artifact in Store(up.data).all() if artifact.stage == "evaluation"]
    rows = scores.manifest.metrics
    assert isinstance(rows, list) and {row["student"] for row in rows} == {"base", "teacher"}


def test_runs_share_the_gpus_and_outlive_the_server(up: Up) -> None:
    """Ten at once; in the middle the server is killed, which `up` starts again. No more build than there are slots."""
    # While the server is away it hears no heartbeat: with the shortest limit it would take the runs for lost.
    assert up.command("up", "--lost-after", "300").returncode == 0
    began = datetime.now().astimezone()
    runs = [
        up.run(
            "distill/distill",
            recipe=as_json(small("questions.train=4", f"triples.seed={n}", f"name=r{n}")),
            until="triples",
        )
        for n in range(10)
    ]
    server = up.child("server")
    begun = {"RUNNING", "COMPLETED"}
    up.wait_for(lambda: {up.state(run)["type"] for run in runs} <= begun, "start of all runs", 240)
    os.killpg(server, signal.SIGKILL)
    up.wait_for(lambda: "the server ended by itself" in up.log.read_text(), "restart")
    up.wait_for(lambda: answers(up), "server", 60)
    for run in runs:
        up.completed(run, 240)
    made = [a.manifest for a in Store(up.data).all() if a.stage == "triples" and re.match(r"r\d$", a.manifest.recipe)]
    assert len(made) == 10
    moments = [(datetime.fromisoformat(m.started_at), 1) for m in made] + [
        (datetime.fromisoformat(m.created_at), -1) for m in made
    ]
    busy, most = 0, 0
    for moment, change in sorted(moments):
        assert moment >= began
        busy += change
        most = max(most, busy)
    assert 1 < most <= GPU_SLOTS
    assert up.command("up", "--lost-after", str(LOST_SECONDS)).returncode == 0


def answers(up: Up) -> bool:
    try:
        return bool(up.api("/health", method="GET"))
    except OSError:
        return False


def test_keys_come_from_environment_or_block_and_show_nowhere(up: Up, nights: Nights) -> None:
    """Also when the server repeats the key in its error, and everywhere: parameters, logs, artifacts, database."""
    block_type = up.api("/block_types/slug/secret", method="GET")
    schema = up.api("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [block_type["id"]]}}})[0]
    block = {
        "name": "block-key",
        "data": {"value": SECRETS[2]},
        "block_type_id": block_type["id"],
        "block_schema_id": schema["id"],
    }
    up.api("/block_documents/", block)
    before = len(nights.server.seen)
    recipe = nights.recipe(api_key_env="BLOCK_KEY", provider="another")
    up.completed(up.run("distill/distill", recipe=recipe, until="triples"))
    assert {seen.headers["Authorization"] for seen in nights.server.seen[before:]} == {f"Bearer {SECRETS[2]}"}
    missing = up.end(up.run("distill/distill", recipe=nights.recipe(api_key_env="NO_SUCH_KEY", provider="third")))
    assert missing["type"] == "FAILED" and "NO_SUCH_KEY" in missing["message"]
    for path in [path for path in up.folder.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content], path
        assert path.suffix == ".password" or up.password.encode() not in content, path


def test_a_run_that_hangs_can_be_freed_and_resumed(up: Up) -> None:
    hangs = threading.Event()  # from the fifth request on
    hangs.set()
    server = WireServer(lambda body, time: Act(hang=hangs.is_set() and len(server.seen) > 4))
    with server.running():
        teacher = {"kind": "endpoint", "model": "m", "base_url": server.url, "prompt": "{question}"}
        recipe = small("opd.steps=0", "questions.seed=11", teacher=teacher, triples={"concurrency": 1})
        run = up.run("distill/distill", recipe=as_json(recipe), until="triples")
        up.wait_for(lambda: len(server.seen) > 2, "request")
        refused = up.command("free", run)
        assert refused.returncode == 2 and "is alive" in refused.stderr
        freed = up.command("free", run, "--force")
        assert freed.returncode == 0, freed.stderr
        assert up.state(run)["type"] == "CRASHED"
        os.kill(up.pid(run), signal.SIGKILL)
        hangs.clear()
        resumed = up.command("resume", run_record(up, run))
        assert resumed.returncode == 0, resumed.stderr
        up.completed(run)


def run_record(up: Up, run: str) -> str:
    record = up.record(run)
    assert record
    return str(record["id"])
