"""The parameters of flows: a deployment's form and a command line offer only those that the flow reads."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.importtools import import_object

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.store import runs
from cohobate.store.artifacts import Artifact
from tasks.run import cohobate_flow, run_flow

ROOT = Path(__file__).parents[2]
READ = {
    "distill": ["recipe", "until"],
    "nightly": ["recipe", "allow"],
    "compare": ["recipe"],
    "judge": ["recipe"],
    "recover": ["recipe"],
    "single-prompt": ["recipe"],
    "regenerate": ["teacher", "old", "allow"],
    "evaluate": ["checkpoint", "recipe"],
}


def test_each_deployment_has_the_parameters_that_its_flow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {each["name"]: import_object(each["entrypoint"]) for each in deployments}
    assert {name: list(flow.parameters.properties) for name, flow in flows.items()} == READ
    for each in deployments:
        assert set(each.get("parameters", {})) <= set(READ[each["name"]])
        source = inspect.getsourcefile(flows[each["name"]].fn)
        assert source == str(ROOT / each["entrypoint"].partition(":")[0])


@cohobate_flow()
def whole(recipe: Recipe | str = "tiny") -> list[Artifact]:
    assert isinstance(recipe, Recipe)
    seen.append(("whole", recipe.name, None))
    return []


@cohobate_flow()
def part(recipe: Recipe | str = "tiny", until: str = "report") -> list[Artifact]:
    assert isinstance(recipe, Recipe)
    seen.append(("part", recipe.name, until))
    return []


seen: list[tuple[str, str, str | None]] = []


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_until_is_no_option_of_a_flow_that_does_not_stop_early(capsys: pytest.CaptureFixture[str]) -> None:
    for flow, expected in ((whole, False), (part, True)):
        with pytest.raises(SystemExit) as ended:
            run_flow(flow, ["--help"])
        assert ended.value.code == 0
        assert ("--until" in capsys.readouterr().out) is expected


@pytest.mark.prefect
def test_a_record_of_a_flow_that_had_until_is_resumed(server: None, data: Path) -> None:
    recipe = load_recipe("tiny")
    for flow, until in ((whole, None), (part, "sft")):
        record = runs.begin(recipe, "sft", flow=flow.name)
        runs.end(record, "interrupted")
        assert json.loads(record.path.read_text())["until"] == "sft"
        seen.clear()
        assert run_flow(flow, ["--resume", record.id]) == 0
        assert seen == [(flow.name, "tiny", until)]
