"""Records of runs, and which of them `cohobate resume` goes on with."""

import json
from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.store import runs


def test_an_unreadable_record_is_named_and_passed_over(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = runs.begin(Recipe(name="whole"), "report")
    broken = runs.begin(Recipe(name="broken"), "report")
    broken.path.write_bytes(broken.path.read_bytes()[:40])
    assert runs.to_resume(None).id == whole.id
    assert str(broken.path) in capsys.readouterr().err


def test_a_record_of_an_earlier_version_is_read(data: Path) -> None:
    """One from before runs knew their flow, and records had a seal."""
    record = runs.begin(Recipe(name="old"), "report")
    values = json.loads(record.path.read_text())
    del values["flow"], values["flow_run_id"], values["seal"]
    record.path.write_text(json.dumps(values))
    assert runs.to_resume(None).flow == "distill"


def test_a_flow_run_that_is_tried_again_keeps_its_record(data: Path) -> None:
    first = runs.begin(Recipe(name="a"), "report", flow_run_id="one")
    runs.add_artifact(first.id, "questions/a-1")
    runs.end(first, "failed", "no")
    again = runs.begin(Recipe(name="a"), "report", flow_run_id="one")
    assert (again.id, again.status, again.error, again.artifacts) == (first.id, "running", None, ["questions/a-1"])
    assert runs.begin(Recipe(name="a"), "report", flow_run_id="two").id != first.id


def test_a_killed_run_is_known_by_what_it_made(data: Path) -> None:
    record = runs.begin(Recipe(name="a"), "report")
    for artifact in ("questions/a-1", "triples/a-2", "questions/a-1"):
        runs.add_artifact(record.id, artifact)
    [killed] = runs.all_records()
    assert killed.artifacts == ["questions/a-1", "triples/a-2"] and runs.is_alive(killed)
    runs.end(record, "interrupted")
    [ended] = runs.all_records()
    assert ended.artifacts == killed.artifacts and not runs.is_alive(ended)
