"""The parameters of flows: a deployment's form and a command line offer only those that the flow reads."""

import inspect
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cohobate.config import Recipe
from cohobate.config.load import load_recipe
from cohobate.core.errors import RecipeError
from cohobate.store import runs
from cohobate.store.artifacts import Artifact

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


@pytest.mark.slow
def test_each_deployment_has_the_parameters_that_its_flow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.utilities.importtools import import_object

    monkeypatch.chdir(ROOT)
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {each["name"]: import_object(each["entrypoint"]) for each in deployments}
    assert {name: list(flow.parameters.properties) for name, flow in flows.items()} == READ
    for each in deployments:
        assert set(each.get("parameters", {})) <= set(READ[each["name"]])
        source = inspect.getsourcefile(inspect.unwrap(flows[each["name"]].fn))
        assert source == str(ROOT / f"{each['entrypoint'].rpartition('.')[0].replace('.', '/')}.py")


seen: list[tuple[str, str, str | None]] = []


@pytest.fixture(scope="module")
def flows() -> tuple[Any, Any]:
    """A flow that runs to its end, and one that stops early; both note in `seen` what they were given."""
    from tasks.run import cohobate_flow

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

    return whole, part


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.slow
def test_until_is_no_option_of_a_flow_that_does_not_stop_early(
    flows: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.run import run_flow

    for flow, expected in zip(flows, (False, True), strict=True):
        with pytest.raises(SystemExit) as ended:
            run_flow(flow, ["--help"])
        assert ended.value.code == 0
        assert ("--until" in capsys.readouterr().out) is expected


@pytest.mark.slow
@pytest.mark.parametrize("allow", [-0.1, 1.5, float("nan"), float("inf")])
def test_an_allowance_that_is_no_share_is_refused(allow: float) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.nightly import nightly
    from flows.regenerate import regenerate

    with pytest.raises(ParameterTypeError, match="allow"):
        nightly.validate_parameters({"recipe": "tiny", "allow": allow})
    with pytest.raises(ParameterTypeError, match="allow"):
        regenerate.validate_parameters({"teacher": {"model": "world/teacher"}, "old": "tiny", "allow": allow})
    assert nightly.validate_parameters({"recipe": "tiny", "allow": 1.0})["allow"] == 1.0


@pytest.mark.slow
def test_a_deployments_recipe_that_names_code_is_refused_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.parameters import ALLOW
    from tasks.run import resolved

    own = {"triples.verifier": "triples.verifier.name=shutil:rmtree", "teacher.answer": "teacher.answer=shutil:rmtree"}
    for change in own.values():
        assert resolved(load_recipe("tiny", [change]))  # of the command line
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "c0ffee00-0000-4000-8000-000000000000")
    assert resolved(load_recipe("tiny", [r"teacher.answer=Answer: (\d+)"]))
    for setting, change in own.items():
        recipe = load_recipe("tiny", [change])
        with pytest.raises(RecipeError, match=f"{setting}: 'shutil:rmtree' is code"):
            resolved(recipe)
        monkeypatch.setenv(ALLOW, "1")
        assert resolved(recipe) == recipe
        monkeypatch.delenv(ALLOW)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ({"triples": {"verifier": "shutil:rmtree"}}, "triples.verifier"),
        ({"triples": {"samples": 2, "verifier": {"name": "shutil:rmtree"}}}, "triples.verifier"),
    ],
)
@pytest.mark.parametrize("only", [[], ["harmless"]])
def test_a_deployments_recipe_names_no_code_by_way_of_a_method_either(
    monkeypatch: pytest.MonkeyPatch, method: dict[str, Any], setting: str, only: list[str]
) -> None:
    from tasks.run import resolved

    def recipe_of(changes: dict[str, Any]) -> Recipe:
        methods = {"harmless": {"stage": "sft"}, "other": {"stage": "sft", **changes}}
        return Recipe.model_validate({"compare": {"methods": methods, "only": only}})

    assert resolved(recipe_of(method))  # of the command line
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "c0ffee00-0000-4000-8000-000000000000")
    assert resolved(recipe_of({"triples": {"verifier": "numeric"}}))
    with pytest.raises(RecipeError, match=rf"^compare\.methods\.other\.{setting}: 'shutil:rmtree' is code"):
        resolved(recipe_of(method))


@pytest.mark.slow
def test_job_variables_that_the_operator_has_otherwise_are_named_without_their_values() -> None:
    from tasks.server.deployments import differs

    said = differs("job_variables", {"env": {"KEY": "hidden"}, "image": "a"}, {"image": "a", "env": {"KEY": "x"}})
    assert said == "job variables stay as they are, where the file has others: env"


@pytest.fixture
def own_process() -> Iterator[None]:
    """A flow that is the program of its process names its server in the environment, and hears signals until the end.

    Neither is meant for the tests that come after it.
    """
    before = dict(os.environ)
    yield
    signal.set_wakeup_fd(-1)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.prefect
def test_a_record_of_a_flow_that_had_until_is_resumed(
    server: None, flows: tuple[Any, Any], data: Path, own_process: None
) -> None:
    from tasks.run import run_flow

    recipe = load_recipe("tiny")
    for flow, until in zip(flows, (None, "sft"), strict=True):
        record = runs.begin(recipe, "sft", flow=flow.name)
        runs.end(record, "interrupted")
        assert json.loads(record.path.read_text())["until"] == "sft"
        seen.clear()
        assert run_flow(flow, ["--resume", record.id]) == 0
        assert seen == [(flow.name, "tiny", until)]
