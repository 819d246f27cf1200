"""`cohobate deploy`: a deployment of one's own recipe, from any folder."""

import json
from pathlib import Path

import pytest

from cohobate.store.artifacts import Store
from tests.support.prefect_server import Up

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(420)]

RECIPE = """
[questions]
source = "file"
path = "asked.jsonl"
[opd]
steps = 0
"""


def own(folder: Path, name: str = "own") -> Path:
    """A recipe whose questions lie beside it."""
    rows = [{"question": f"What is {n} + 1?", "gold_answer": str(n + 1)} for n in range(30)]
    (folder / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / f"{name}.toml").write_text(RECIPE)
    return folder


def test_a_recipe_of_ones_own_runs_by_its_schedule_and_up_leaves_it(up: Up, tmp_path: Path) -> None:
    for flow in ("nightly", "distill"):
        made = up.command("deploy", "own.toml", "--flow", flow, "--cron", "0 4 1 1 *", cwd=own(tmp_path))
        assert made.returncode == 0, made.stderr
        assert f"{flow}/own: recipe {tmp_path / 'own.toml'}, 0 4 1 1 * UTC" in made.stdout
    found = up.api("/deployments/name/nightly/own", method="GET")
    assert found["parameters"] == {"recipe": str(tmp_path / "own.toml")}
    only = {
        "deployments": {"id": {"any_": [found["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    planned = up.wait_for(lambda: up.api("/flow_runs/filter", only), "scheduled run")
    assert {run["next_scheduled_start_time"][5:16] for run in planned} == {"01-01T04:00"}  # no other test sees it run
    run = up.run("distill/own", until="questions")
    up.completed(run)
    owned = [each for each in Store(up.data).all() if each.stage == "questions" and each.manifest.recipe == "own"]
    assert 30 in {each.manifest.rows for each in owned}  # of the file beside the recipe, into the data of `up`
    schedules = found["schedules"]
    assert up.command("up", cwd=tmp_path).returncode == 0
    assert up.api("/deployments/name/nightly/own", method="GET")["schedules"] == schedules
    again = up.command("deploy", str(tmp_path / "own.toml"), "--cron", "0 3 * * *", "--timezone", "Europe/Paris")
    assert again.returncode == 0 and "0 3 * * * Europe/Paris" in again.stdout, again.stderr
    [schedule] = up.api("/deployments/name/nightly/own", method="GET")["schedules"]
    assert schedule["schedule"]["cron"] == "0 3 * * *"
    for flow in ("nightly", "distill"):
        up.api(f"/deployments/{up.api(f'/deployments/name/{flow}/own', method='GET')['id']}", method="DELETE")


def test_names_that_differ_in_a_sign_are_two_deployments_and_anothers_is_refused(up: Up, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("mine", "yours")]
    for folder in folders:
        folder.mkdir()
        own(own(folder, "a-b"), "a_b")
    names = ("a-b", "a_b")
    for name in names:
        made = up.command("deploy", f"{name}.toml", "--flow", "distill", cwd=folders[0])
        assert made.returncode == 0 and not made.stdout.startswith("--"), made
    kept = [each["name"] for each in up.api("/variables/filter", {}) if "distill_a_b" in each["name"]]
    assert len(kept) == 2
    refused = up.command("deploy", "a_b.toml", "--flow", "distill", cwd=folders[1])
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
    assert f"distill/a_b is there and runs recipe {folders[0] / 'a_b.toml'}" in refused.stderr
    assert "--name" in refused.stderr
    for name in names:
        found = up.api(f"/deployments/name/distill/{name}", method="GET")
        assert found["parameters"] == {"recipe": str(folders[0] / f"{name}.toml")}
        up.api(f"/deployments/{found['id']}", method="DELETE")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere.toml"], "recipe 'nowhere.toml' is neither a file nor"),
        (["own.toml", "--cron", ""], "--cron is empty"),
        (["own.toml", "--cron", "never"], "cron 'never' in time zone UTC is no schedule"),
        (["own.toml", "--cron", "0 2 * * *", "--timezone", "Nowhere"], "in time zone Nowhere is no schedule"),
        (["nightly.toml"], "nightly/nightly is a deployment of"),
    ],
)
def test_a_mistake_is_one_sentence(up: Up, tmp_path: Path, arguments: list[str], part: str) -> None:
    own(tmp_path)
    own(tmp_path, "nightly")
    refused = up.command("deploy", *arguments, cwd=tmp_path)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
    assert part in refused.stderr
