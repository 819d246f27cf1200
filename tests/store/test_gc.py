"""`cohobate gc`: what is kept, what goes, and that nothing goes by accident."""

import os
import time
from pathlib import Path

import pytest

from cohobate.config import Recipe
from cohobate.core.errors import StoreError
from cohobate.store import gc, promotion, runs
from cohobate.store.artifacts import Artifact, Store
from tests.support.artifacts import make
from tests.support.command import cohobate


def night(questions: Artifact, name: str, status: runs.Status = "done") -> dict[str, Artifact]:
    """A run that made triples and a student of `questions`."""
    record = runs.begin(Recipe(name="night"), "report")
    triples = make(f"triples {name}", "triples", questions)
    student = make(f"student {name}", "sft", triples, questions)
    for artifact in (questions, triples, student):
        runs.add_artifact(record.id, artifact.id)
    runs.end(record, status)
    time.sleep(0.002)  # records are ordered by their times, to the millisecond
    return {"triples": triples, "student": student}


def ids(plan: gc.Plan) -> set[str]:
    return {f"{each.path.parent.name}/{each.path.name}" for each in plan.garbage if each.path.is_dir()}


def test_the_newest_nights_stay_and_the_older_ones_go(data: Path) -> None:
    questions = make("questions", "questions")
    nights = [night(questions, str(n)) for n in range(4)]
    plan = gc.plan(keep=2)
    assert ids(plan) == {artifact.id for old in nights[:2] for artifact in old.values()}
    assert plan.bytes > 4000 and len(plan.survivors) == 5
    assert len(Store().all()) == 9, "a plan deletes nothing"
    gc.sweep(plan)
    assert {artifact.id for artifact in Store().all()} == {artifact.id for artifact in plan.survivors}
    assert len(runs.all_records()) == 2
    assert not gc.plan(keep=2).garbage


def test_what_is_promoted_stays_with_all_it_was_made_from(data: Path) -> None:
    questions = make("questions", "questions")
    nights = [night(questions, str(n)) for n in range(3)]
    promotion.promote("night", [nights[0]["student"]], "by hand")
    assert ids(gc.plan(keep=1)) == {artifact.id for artifact in nights[1].values()}


def test_what_an_unfinished_run_has_made_stays_until_a_later_one_is_done(data: Path) -> None:
    questions = make("questions", "questions")
    night(questions, "done")
    failed = night(questions, "failed", "failed")
    assert not ids(gc.plan(keep=1))
    night(questions, "later")
    assert {artifact.id for artifact in failed.values()} <= ids(gc.plan(keep=1))


def test_labels_and_curated_triples_go_with_what_they_were_made_of(data: Path) -> None:
    questions = make("questions", "questions")
    old, new = night(questions, "old"), night(questions, "new")
    derived = [
        [make(f"l {n}", "labels", each["triples"]), make(f"c {n}", "triples", each["triples"], recipe="night.curated")]
        for n, each in enumerate((old, new))
    ]
    gone = ids(gc.plan(keep=1))
    assert {artifact.id for artifact in derived[0]} <= gone
    assert not {artifact.id for artifact in derived[1]} & gone


def test_responses_and_fresh_builds_are_left_alone(data: Path) -> None:
    (data / "responses").mkdir(parents=True)
    (data / "responses" / "part-1.parquet").write_bytes(b"paid for")
    fresh, stale, damaged = (data / "sft" / name for name in ("a-1.partial", "b-2.partial", "c-0123abcd.damaged-1"))
    for folder in (fresh, stale, damaged):
        folder.mkdir(parents=True)
    os.utime(stale, (0, 0))
    assert {each.path for each in gc.plan(keep=1).garbage} == {stale, damaged}


def test_nothing_is_deleted_while_a_run_is_at_work(data: Path) -> None:
    for n in range(2):
        night(make("questions", "questions"), str(n))
    running = runs.begin(Recipe(name="other"), "report")
    with pytest.raises(StoreError, match=running.id):
        gc.sweep(gc.plan(keep=1))
    assert len(Store().all()) == 5


@pytest.mark.serves
def test_the_command_is_dry_unless_told(data: Path) -> None:
    questions = make("questions", "questions")
    for n in range(3):
        night(questions, str(n))
    said = cohobate("gc", "--keep", "1", data=data)
    assert said.returncode == 0 and "can be deleted with --yes" in said.stdout
    assert len(Store().all()) == 7
    assert "deleted" in cohobate("gc", "--keep", "1", "--yes", data=data).stdout
    assert len(Store().all()) == 3
