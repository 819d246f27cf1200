"""Plug-ins of installed packages, and the documents' own example, installed and used by a run."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from cohobate import VERIFIER_ENTRY_POINTS
from cohobate.config import Verification
from cohobate.core.errors import VerifierError
from cohobate.evaluation.verifiers.verify import identity
from tests.support.distributions import write_distribution

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "plug-ins.md").read_text()
RUN = """
import json
import polars as pl
from cohobate.stages.functions import run
from tests.support.prefect_server import small

recipe = small(
    "questions.source=sums", "questions.options={count=60, largest=12}", "triples.verifier=last_digit",
    "opd.objective=clipped", "opd.clipped.limit=2.0", "questions.train=0", "questions.hard=0",
)
made = {each.stage: each for each in run(recipe, until="opd")}
verdicts = pl.read_parquet(made["triples"].path / "verdicts.parquet")
print(json.dumps({
    "questions": pl.read_parquet(made["questions"].path / "questions.parquet").select("question", "gold_answer").rows(),
    "verifiers": verdicts["verifier"].unique().to_list(),
    "rows": verdicts.select("answer", "gold", "verdict").rows() if "answer" in verdicts.columns else [],
    "loss": pl.read_parquet(made["opd"].path / "metrics.parquet")["loss"].to_list(),
    "identities": {stage: artifact.manifest.identity for stage, artifact in made.items()},
}))
"""


def shouting(folder: Path, name: str, value: str = "shouting:shouted") -> Path:
    source = "def shouted(answer, **others):\n    return bool(answer) and answer.isupper()\n"
    return write_distribution(folder, name, {"shouting.py": source}, {VERIFIER_ENTRY_POINTS: {"shouted": value}})


def test_a_verifier_is_known_by_its_package_its_version_and_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(shouting(tmp_path, "loud")))
    name = identity(Verification(name="shouted"))["name"]
    assert re.fullmatch(r"shouted@[0-9a-f]{8} of loud 1\.0", name)
    (tmp_path / "shouting.py").write_text("def shouted(answer, **others):\n    return True\n")
    assert identity(Verification(name="shouted"))["name"] != name
    (tmp_path / "shouting.py").unlink()
    with pytest.raises(VerifierError, match="there is no module 'shouting'"):
        identity(Verification(name="shouted"))


def test_an_unknown_verifier_is_refused_with_the_names_of_those_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = r"give exact, numeric, .*judge, or your own as module:function \(no installed package brings one"
    with pytest.raises(ValidationError, match=none):
        Verification(name="shuoted")
    monkeypatch.syspath_prepend(str(shouting(tmp_path, "loud")))
    with pytest.raises(ValidationError, match="judge, shouted, or your own as module:function"):
        Verification(name="shuoted")


def test_two_packages_with_one_name_and_a_value_that_is_no_function_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(shouting(tmp_path / "odd", "odd", "shouting")))
    with pytest.raises(ValidationError, match=r"'shouted' of odd in .* is 'shouting', and not module:function"):
        Verification(name="shouted")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(shouting(tmp_path / "one", "one")))
    assert Verification(name="shouted").is_function
    monkeypatch.syspath_prepend(str(shouting(tmp_path / "two", "two", "shouting:louder")))
    with pytest.raises(ValidationError, match="both bring 'shouted' in "):
        Verification(name="shouted")


@pytest.mark.trains
@pytest.mark.serves
def test_the_package_of_the_documents_runs(tmp_path: Path) -> None:
    files = dict(re.findall(r'^```\w+ title="(.*?)"\n(.*?)^```', DOCUMENT, re.MULTILINE | re.DOTALL))
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    package = write_distribution(tmp_path / "package", "my_plug_ins", files, project["entry-points"])
    path = os.pathsep.join([str(package), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "COHOBATE_DATA": str(tmp_path / "data"), "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    sums = {f"What is {a} + {b}?": str(a + b) for a in range(13) for b in range(13)}
    assert len(made["questions"]) == 60 and all(sums[question] == gold for question, gold in made["questions"])
    [name] = made["verifiers"]
    assert re.fullmatch(r"last_digit@[0-9a-f]{8} of my_plug_ins 1\.0", name)
    assert len(made["loss"]) == 2 and all(0 < loss <= 2 for loss in made["loss"])
    brought = {"distribution": "my_plug_ins", "version": "1.0"}
    assert made["identities"]["opd"].items() >= {**brought, "plug_in": "clipped"}.items()
    assert made["identities"]["questions"]["function"].items() >= {**brought, "plug_in": "sums"}.items()
