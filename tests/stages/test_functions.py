"""The stages from Python: the documented example, the store that they share with the command line, and their errors."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import cohobate
from cohobate import Recipe, run, triples
from cohobate.config import StageName
from cohobate.core.errors import CohobateError, RecipeError
from cohobate.store import gc, runs
from cohobate.store.artifacts import STAGES
from tests.support.command import answer
from tests.support.pipeline import Finished

ROOT = Path(__file__).parents[2]
NO_MODEL = ["questions.train=4", "questions.fresh=4", "questions.test=2", "questions.validation=2", "questions.hard=1"]


@pytest.mark.trains
@pytest.mark.serves
def test_the_documented_example_runs_without_prefect(data: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    program = f"{example}\nimport sys\nassert 'prefect' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert (
        said[0].startswith("triples/tiny-") and Path(said[-1]).is_file() and (Path(said[1]) / "config.json").is_file()
    )
    listed = answer("ls", data=data)
    assert [row["stage"] for row in listed] == list(STAGES)
    assert [record.status for record in runs.all_records()] == ["done"] * 5
    assert gc.plan(5).garbage == []


def test_what_the_pipeline_made_is_found(finished: Finished, tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHOBATE_DATA", str(finished.root))
    made = run(tiny)
    assert [artifact.id for artifact in made] == [finished.artifacts[stage].id for stage in STAGES]
    assert all(artifact.cached for artifact in made)


def test_overrides_change_a_recipe_as_set_does(data: Path, tiny: Recipe) -> None:
    by_name, by_object = (run(recipe, NO_MODEL, until="questions") for recipe in ("tiny", tiny))
    assert by_name[0].id == by_object[0].id and by_object[0].cached
    assert by_name[0].manifest.rows == 13
    with pytest.raises(RecipeError, match=r"unknown key 'opd\.stepz'"):
        run(tiny, ["opd.stepz=1"])
    with pytest.raises(RecipeError, match="the stages are questions, triples"):
        run("tiny", until="tripels")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="did you mean 'tiny'"):
        triples("tinyy")


def test_a_run_that_fails_has_its_reason_in_its_record(data: Path) -> None:
    with pytest.raises(RecipeError):
        run("tiny", ["teacher.kind=endpont"])
    assert runs.all_records() == []
    with pytest.raises(CohobateError, match="no-such-folder"):
        triples("tiny", [*NO_MODEL, "teacher.model=no-such-folder"])
    [record] = runs.all_records()
    assert record.status == "failed" and "no-such-folder" in (record.error or "")
    assert [name.partition("/")[0] for name in record.artifacts] == ["questions"]


def test_the_package_offers_its_names_and_no_others() -> None:
    assert {"Recipe", "run", "triples", "sft", "opd", "evaluate"} <= set(dir(cohobate))
    assert set(get_args(StageName)) == set(STAGES)
    with pytest.raises(AttributeError, match="distil"):
        cohobate.distil  # noqa: B018
