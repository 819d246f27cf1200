"""`cohobate up` and the operator: what was changed on the server stays, however often it is started."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cohobate.core.errors import UserError
from cohobate.core.fingerprint import hash_value
from tests.support.prefect_server import Up

FIELDS = ("paused", "parameters", "schedules", "tags", "description", "concurrency_options", "work_pool_name")
AUTOMATION = "cohobate: a run that is lost"


def deployment(up: Up, name: str) -> dict[str, Any]:
    found: dict[str, Any] = up.api(f"/deployments/name/{name}/{name}", method="GET")
    return found


def present(up: Up) -> dict[str, dict[str, Any]]:
    """What the operator sees of each deployment."""
    found = up.api("/deployments/filter", {})
    for each in found:
        each["schedules"] = sorted(
            (
                {key: one[key] for key in ("id", "schedule", "active", "parameters", "slug")}
                for one in each["schedules"]
            ),
            key=lambda one: one["id"],
        )
    return {each["name"]: {field: each[field] for field in FIELDS} for each in found}


def operate(up: Up) -> None:
    """What an operator does in the UI: schedules of the own and the shipped one paused, parameters, a pause."""
    nightly, judge, recover = (deployment(up, name) for name in ("nightly", "judge", "recover"))
    [shipped] = nightly["schedules"]
    up.api(f"/deployments/{nightly['id']}/schedules/{shipped['id']}", {"active": False}, "PATCH")
    for cron in ("30 4 * * 1", "0 5 * * *"):
        own = {"schedule": {"cron": cron, "timezone": "Europe/Paris"}, "active": cron.startswith("30")}
        up.api(f"/deployments/{nightly['id']}/schedules", [own])
    up.api(f"/deployments/{judge['id']}/schedules", [{"schedule": {"interval": 86400}, "active": True}])
    up.api(f"/deployments/{judge['id']}", {"parameters": {"recipe": "own"}}, "PATCH")
    up.api(f"/deployments/{recover['id']}/pause_deployment", {})
    up.api(f"/deployments/{recover['id']}", {"tags": ["mine"], "description": "Mine."}, "PATCH")


def undo(up: Up) -> None:
    reset = up.command("up", "--reset")
    assert reset.returncode == 0, reset.stderr
    for name in ("nightly", "judge"):
        found = deployment(up, name)
        for each in found["schedules"]:
            if not each["slug"]:
                up.api(f"/deployments/{found['id']}/schedules/{each['id']}", method="DELETE")
    with suppress(OSError):
        up.api(f"/deployments/{deployment(up, 'recover')['id']}/resume_deployment", {})


@contextmanager
def operated(up: Up) -> Iterator[dict[str, dict[str, Any]]]:
    """The deployments as the operator has changed them; undone afterwards."""
    operate(up)
    try:
        yield present(up)
    finally:
        undo(up)


def definitions(folder: Path, nightly: str) -> Path:
    """A prefect.yaml with one nightly deployment."""
    head = "deployments:\n- name: nightly\n  entrypoint: flows.nightly.nightly\n  work_pool: {name: cohobate}\n"
    (folder / "prefect.yaml").write_text(head + nightly)
    return folder


@pytest.mark.prefect
@pytest.mark.timeout(420)
class TestOperator:
    def test_what_was_changed_stays_and_is_said(self, up: Up) -> None:
        shipped = present(up)
        with operated(up) as changed:
            said = up.command("up")
            assert said.returncode == 0, said.stderr
            assert present(up) == changed != shipped
            for sentence in (
                "deployment nightly: the schedule stays '0 2 * * * UTC, paused', which the file has as '0 2 * * * UTC'",
                'deployment judge: parameters stays {"recipe": "own"}, which the file has as {"recipe": "helpdesk"}',
                "deployment recover: is paused, and stays so",
                'deployment recover: tags stays ["mine"], which the file has as ["cohobate"]',
            ):
                assert sentence in said.stdout
            status = up.command("up", "--status").stdout
            assert "(0 2 * * * UTC, paused)" in status and "(30 4 * * 1 Europe/Paris)" in status
        assert present(up) == shipped

    @pytest.mark.long
    def test_a_changed_file_changes_what_the_operator_has_not(self, up: Up, tmp_path: Path) -> None:
        first = (
            "  parameters: {recipe: tiny}\n  schedules: [{cron: '0 3 * * *', slug: a}, {cron: '0 4 * * *', slug: b}]\n"
        )
        second = "  parameters: {recipe: arithmetic}\n  schedules: [{cron: '0 6 * * *', slug: a}, {interval: 3600}]\n"
        before = present(up)["nightly"]
        try:
            assert up.command("up", cwd=definitions(tmp_path, first)).returncode == 0
            found = deployment(up, "nightly")
            assert found["parameters"] == {"recipe": "tiny"}
            times = {each["slug"]: each for each in found["schedules"]}
            assert {slug: each["schedule"]["cron"] for slug, each in times.items()} == {
                "a": "0 3 * * *",
                "b": "0 4 * * *",
            }
            up.api(f"/deployments/{found['id']}/schedules/{times['b']['id']}", {"active": False}, "PATCH")
            assert up.command("up", cwd=definitions(tmp_path, second)).returncode == 0
            found = deployment(up, "nightly")
            assert found["parameters"] == {"recipe": "arithmetic"}
            times = {each["slug"]: each for each in found["schedules"]}
            assert set(times) == {"a", "b", "cohobate-2"}  # b, paused, is the operator's
            assert times["a"]["schedule"]["cron"] == "0 6 * * *" and not times["b"]["active"]
            assert found["pull_steps"] == [
                {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}
            ]
            up.api(f"/deployments/{found['id']}/schedules/{times['a']['id']}", method="DELETE")
            said = up.command("up", cwd=tmp_path)
            assert "the schedule '0 6 * * * UTC' of the file is not there, and stays away" in said.stdout
        finally:
            found = deployment(up, "nightly")
            for each in found["schedules"]:
                up.api(f"/deployments/{found['id']}/schedules/{each['id']}", method="DELETE")
            assert up.command("up", "--reset").returncode == 0
        after = present(up)["nightly"]
        assert after["parameters"] == before["parameters"] and len(after["schedules"]) == 1

    @pytest.mark.long
    def test_the_record_of_an_earlier_version_is_kept_under_its_new_name(self, up: Up) -> None:
        plain = "cohobate_up_judge_judge"
        name = f"{plain}_{hash_value('judge_judge')[:8]}"
        kept = up.api(f"/variables/name/{name}", method="GET")["value"]
        up.api("/variables/", {"name": plain, "value": kept})
        up.api(f"/variables/name/{name}", method="DELETE")
        assert up.command("up").returncode == 0
        assert up.api(f"/variables/name/{name}", method="GET")["value"] == kept
        names = [each["name"] for each in up.api("/variables/filter", {})]
        assert name in names and plain not in names

    @pytest.mark.long
    def test_what_an_earlier_version_made_is_taken_over(self, up: Up) -> None:
        """By `prefect deploy --all`, which keeps no record: what is as it should be becomes what `up` made."""
        found = deployment(up, "nightly")
        [shipped] = found["schedules"]
        up.api(f"/deployments/{found['id']}/schedules/{shipped['id']}", method="DELETE")
        up.api(f"/deployments/{found['id']}/schedules", [{"schedule": shipped["schedule"], "active": True}])
        changes = {"entrypoint": "flows/nightly.py:nightly", "description": "Of another version."}
        up.api(f"/deployments/{found['id']}", changes, "PATCH")
        up.api(f"/variables/name/cohobate_up_nightly_nightly_{hash_value('nightly_nightly')[:8]}", method="DELETE")
        said = up.command("up").stdout
        after = deployment(up, "nightly")
        assert [each["slug"] for each in after["schedules"]] == ["cohobate-1"]
        assert after["entrypoint"] == "flows.nightly.nightly"
        assert after["description"] == "Of another version." and "description stays" in said
        assert up.command("up", "--reset").returncode == 0
        assert deployment(up, "nightly")["description"] == found["description"]

    def test_what_was_deleted_or_switched_off_stays_so(self, up: Up) -> None:
        [automation] = [each for each in up.api("/automations/filter", {}) if each["name"] == AUTOMATION]
        up.api(f"/automations/{automation['id']}", {"enabled": False}, "PATCH")
        up.api(f"/deployments/{deployment(up, 'evaluate')['id']}", method="DELETE")
        try:
            said = up.command("up")
            assert "deployment evaluate was deleted; `cohobate up --reset` makes it again" in said.stdout
            assert f"'{AUTOMATION}' is switched off, and stays so" in said.stdout
            assert "evaluate" not in present(up)
            [still] = [each for each in up.api("/automations/filter", {}) if each["name"] == AUTOMATION]
            assert not still["enabled"] and still["trigger"]["within"] == automation["trigger"]["within"]
        finally:
            assert up.command("up", "--reset", "--lost-after", "60").returncode == 0
        assert "evaluate" in present(up)
        [again] = [each for each in up.api("/automations/filter", {}) if each["name"] == AUTOMATION]
        assert again["enabled"]


@pytest.mark.prefect
@pytest.mark.kill
@pytest.mark.long
@pytest.mark.timeout(420)
def test_all_of_it_is_the_same_after_two_kills(tmp_path: Path) -> None:
    """Of `up` with server and worker, as when the machine dies."""
    up = Up(tmp_path)
    up.start()
    try:
        operate(up)
        changed = present(up)
        for _ in range(2):
            programs = [up.child("server"), up.child("worker")]
            up.process.kill()
            up.process.wait()
            for program in programs:
                os.killpg(program, signal.SIGKILL)
            up.start()
            assert present(up) == changed
            assert "is paused, and stays so" in up.log.read_text()
    finally:
        up.stop()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("deployments: [{name: a", "cannot be used: while parsing"),
        ("- 1", "cannot be used"),
        ("deployments: [{name: a, entrypoint: flows.x.x, work_pool: {name: p}, build: []}]", "unknown key"),
        ("deployments: [{name: a, entrypoint: nothing, work_pool: {name: p}}]", "entrypoint"),
        ("deployments: [{name: a, entrypoint: f.f, work_pool: {name: p}, concurrency_limit: 0}]", "concurrency_limit"),
        ("deployments: [{name: a, entrypoint: f.f}]", "work_pool' is missing"),
        ("deployments: &a [*a]", "cannot be used"),
    ],
)
def test_a_file_that_is_not_understood_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    from tasks.server import definitions

    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        definitions.read(tmp_path / "prefect.yaml")
    assert reason in str(caught.value) and "\n" not in str(caught.value)
