"""The flow under Prefect: states in its database, store hits as Cached, mistakes that are not retried."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cohobate.config import Recipe, Verification
from cohobate.config.load import load_recipe
from cohobate.core.errors import QuestionsError
from cohobate.store.artifacts import STAGES, Artifact, Store
from tests.support.pipeline import SMALL

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

pytestmark = pytest.mark.prefect
Distill = Callable[..., list[Artifact]]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def distill(server: None) -> Distill:
    from flows import distill as module

    return module.distill


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data folder for the runs of this file, in which the whole recipe is run first."""
    folder = tmp_path_factory.mktemp("flow") / "data"
    patch = pytest.MonkeyPatch()
    patch.setenv("COHOBATE_DATA", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def first(distill: Distill, root: Path, tiny: Recipe) -> list[Artifact]:
    return distill(tiny)


def newest_run() -> tuple["FlowRun", dict[str, Any]]:
    """The newest flow run, and its task runs by name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
        run = max(runs, key=lambda r: r.created or 0)
        tasks = [t for t in client.read_task_runs() if t.flow_run_id == run.id]
        return run, {task.name: task for task in tasks}


def changed(recipe: Recipe, **sections: dict[str, Any]) -> Recipe:
    updates = {name: getattr(recipe, name).model_copy(update=values) for name, values in sections.items()}
    return recipe.model_copy(update=updates)


def hits(artifacts: list[Artifact]) -> list[str]:
    return [artifact.stage for artifact in artifacts if artifact.cached]


def test_the_whole_recipe_runs_stage_by_stage(first: list[Artifact], root: Path) -> None:
    assert [artifact.stage for artifact in first] == list(STAGES)
    assert not hits(first)
    assert (first[-1].path / "index.html").is_file()
    assert len(Store(root).all()) == len(STAGES)


def test_prefect_knows_each_stage_with_its_result(first: list[Artifact]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType

    run, tasks = newest_run()
    assert run.state_name == "Completed"
    assert set(tasks) == set(STAGES)
    assert {task.state_name for task in tasks.values()} == {"Completed"}
    with get_client(sync_client=True) as client:
        kinds = ArtifactFilter(type=ArtifactFilterType(any_=["progress", "markdown"]))
        artifacts = client.read_artifacts(artifact_filter=kinds)
    summaries = {a.key for a in artifacts if a.type == "markdown"}
    assert summaries >= set(STAGES)
    assert any(a.type == "progress" for a in artifacts)


def test_a_second_run_is_all_cached(distill: Distill, first: list[Artifact], tiny: Recipe) -> None:
    assert hits(distill(tiny)) == list(STAGES)
    run, tasks = newest_run()
    assert run.state_name == "Completed"
    assert {task.state_name for task in tasks.values()} == {"Cached"}


def test_until_stops_after_that_stage(distill: Distill, first: list[Artifact], tiny: Recipe) -> None:
    assert [artifact.stage for artifact in distill(tiny, until="triples")] == ["questions", "triples"]


def test_another_opd_keeps_what_comes_before_it(
    distill: Distill, first: list[Artifact], tiny: Recipe, root: Path
) -> None:
    made = distill(changed(tiny, opd={"steps": 2, "warmup": 0}))
    assert hits(made) == ["questions", "triples", "sft"]
    assert {artifact.id for artifact in first} < {artifact.id for artifact in Store(root).all()}


def test_another_teacher_temperature_rebuilds_triples_and_all_below(
    distill: Distill, first: list[Artifact], tiny: Recipe, root: Path
) -> None:
    made = distill(changed(tiny, triples={"temperature": 0.7}))
    assert hits(made) == ["questions"]
    old, new = ({artifact.id for artifact in artifacts} for artifacts in (first, made))
    assert old & new == {first[0].id}
    assert old | new <= {artifact.id for artifact in Store(root).all()}


def test_another_verifier_runs_in_the_task_and_pays_no_teacher(
    distill: Distill, first: list[Artifact], tiny: Recipe
) -> None:
    spec = Verification(name="tests.support.verifiers:shouts", workers=2)
    made = distill(changed(tiny, triples={"verifier": spec}), until="triples")
    assert hits(made) == ["questions"]
    old, new = first[1].manifest, made[1].manifest
    assert {entry["paid"] for entry in new.ledger} == {"earlier"}
    assert isinstance(old.metrics, dict) and isinstance(new.metrics, dict)
    assert new.metrics["verifier"].startswith("tests.support.verifiers:shouts@")
    # On whole numbers it agrees with the exact verifier; it differs only in what it calls a missing answer.
    assert new.metrics["verdicts"]["correct"] == old.metrics["verdicts"]["correct"]


def test_a_damaged_file_is_named_and_rebuilt(
    distill: Distill, first: list[Artifact], tiny: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = first[-1].path / "index.html"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    made = distill(tiny)
    assert hits(made) == list(STAGES[:-1])
    assert str(path) in capsys.readouterr().err
    assert path.read_bytes() != bytes(content)


def test_a_users_mistake_fails_at_once_and_is_not_retried(distill: Distill, root: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.csv"
    questions.write_text("question,gold_answer\n")
    recipe = load_recipe("tiny", [*SMALL, "questions.source=file", f"questions.path={questions}"])
    with pytest.raises(QuestionsError, match="holds no question"):
        distill(recipe)
    run, tasks = newest_run()
    assert run.state_name == "Failed"
    assert tasks["questions"].run_count == 1
