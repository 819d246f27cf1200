"""An objective of another installed package: found by its entry point, validated, fingerprinted and trained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cohobate
from cohobate.config import Opd, Recipe, Sft
from cohobate.config.load import load_recipe
from cohobate.store.artifacts import Artifact
from tests.support import toy_objective
from tests.support.command import refusal
from tests.support.distributions import write_distribution

GROUP = "cohobate.objectives"
SOURCE = Path(toy_objective.__file__).read_text()
PREFERENCES = ("dpo", "simpo", "kto")
BUILT_IN = ("exact", "topk", "sampled", "gkd", "grpo", "ghost", "judge", *PREFERENCES)
TRAIN = """
import json, sys
import polars as pl
from cohobate.config.load import load_recipe
from tests.support.method_runs import SMALL
from tests.support.pipeline import train_stages

for strength in ("0.5", "2.0"):
    changes = ["opd.objective=toy", f"opd.toy.strength={strength}"]
    made = train_stages(load_recipe("tiny", [*SMALL, *changes]))["opd"]
    loss = pl.read_parquet(made.path / "metrics.parquet")["loss"].to_list()
    print(json.dumps({"id": made.id, "identity": made.manifest.identity, "loss": loss, "path": str(made.path)}))
"""


def on_path(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Processes that are started from now on find the package in `folder`, before all others."""
    repository = str(Path(__file__).parents[3])
    before = os.environ.get("PYTHONPATH", "")
    patch.setenv("PYTHONPATH", os.pathsep.join(part for part in (str(folder), repository, before) if part))


def printed(program: str) -> list[Any]:
    """The lines of JSON that a Python program prints."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith(("{", "["))]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package with the objective `toy`."""
    entry_points = {GROUP: {"toy": "toy_objective:Toy"}}
    folder = write_distribution(tmp_path / "toy", "toy_objective", {"toy_objective.py": SOURCE}, entry_points)
    on_path(folder, monkeypatch)
    return folder


@pytest.mark.trains
@pytest.mark.serves
def test_it_trains_through_the_stages_and_its_settings_are_identity(
    toy: Path, start_artifacts: tuple[Path, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(start_artifacts[0], tmp_path / "data")
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    weak, strong = printed(TRAIN)
    assert weak["id"] != strong["id"]
    for made, strength in ((weak, 0.5), (strong, 2.0)):
        identity = made["identity"]
        assert (identity["objective"], identity["toy"]) == ("toy", {"strength": strength})
        assert identity["objective_version"] == 3 and "teacher" in identity and "exact" not in identity
    # The first step's rollouts are those of the same student.
    assert len(weak["loss"]) == 3 and strong["loss"][0] == pytest.approx(4 * weak["loss"][0])
    weights = [(Path(made["path"]) / "model" / "model.safetensors").read_bytes() for made in (weak, strong)]
    start = (start_artifacts[1][0].path / "model" / "model.safetensors").read_bytes()
    assert len({start, *weights}) == 3


@pytest.mark.serves
def test_its_section_is_validated_like_any_other(toy: Path, tmp_path: Path) -> None:
    def said(override: str) -> str:
        return refusal("run", "tiny", "--set", override, data=tmp_path / "data")

    assert "did you mean 'opd.toy.strength'" in said("opd.toy.strenght=1")
    assert "'opd.toy.strength' is -1" in said("opd.toy.strength=-1")
    assert " or 'toy'" in said("opd.objective=tyo")


@pytest.mark.serves
def test_a_record_without_it_is_read_where_it_is_not_installed(toy: Path) -> None:
    program = """
from cohobate.config.load import load_recipe
print(load_recipe("tiny").model_dump_json())
print(load_recipe("tiny", ["opd.toy.strength=3"]).model_dump_json())
"""
    plain, used = printed(program)
    assert Recipe.model_validate(plain) == load_recipe("tiny")
    assert "toy" not in plain["opd"] and used["opd"]["toy"] == {"strength": 3.0}


@pytest.mark.serves
@pytest.mark.parametrize("first", ["toy_objective", "cohobate.config", "cohobate.training.objectives.sampled"])
def test_it_does_not_matter_which_module_is_imported_first(toy: Path, first: str) -> None:
    program = f"import json, {first}\nfrom cohobate.config import Opd\nprint(json.dumps(list(Opd.declarations)))"
    assert printed(program) == [[*BUILT_IN, "toy"]]


@pytest.mark.serves
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_module", "cannot be loaded from toy_objective:Toy (ModuleNotFoundError"),
        ("Toy = print", "cannot be loaded from toy_objective:Toy (TypeError: no objective of a stage)"),
        (SOURCE.replace('name = "toy"', 'name = "exact"'), "two installed objectives are called 'exact'"),
        (SOURCE.replace('name = "toy"', 'name = "steps"'), "cannot be called 'steps', which is a setting of [opd]"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_in_one_sentence(
    toy: Path, tmp_path: Path, source: str, sentence: str
) -> None:
    (toy / "toy_objective.py").write_text(source)
    assert sentence in refusal("run", "tiny", data=tmp_path / "data")


@pytest.mark.serves
def test_stale_metadata_of_cohobate_hides_no_built_in_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a checkout that is put on the path before the one that the environment was made for."""
    scripts = {"console_scripts": {"cohobate": "cohobate.cli.main:main"}}
    on_path(write_distribution(tmp_path / "old", "cohobate", {}, scripts), monkeypatch)
    program = """
import json
from importlib.metadata import version
from cohobate.config import Opd, Sft
print(json.dumps([version("cohobate"), *Sft.declarations, *Opd.declarations]))
"""
    assert printed(program) == [["1.0", "cross_entropy", "logit_kd", *PREFERENCES, *BUILT_IN]]


def test_each_line_of_the_registry_is_one_objective_in_a_file_of_its_name() -> None:
    declared = [*Sft.declarations, *Opd.declarations]
    files = [path.partition(":")[0].rpartition(".")[2] for path in cohobate.OBJECTIVES]
    assert files == declared
