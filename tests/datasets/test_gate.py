"""What is promoted, and what the gate lets through: triples and students whose difference is known."""

import shutil
import threading
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core import schema
from cohobate.core.errors import DamagedFileError, StoreError
from cohobate.datasets import gate
from cohobate.store import promotion
from cohobate.store.artifacts import Artifact, Outcome, Store, Workspace
from tests.support.artifacts import make
from tests.support.command import cohobate
from tests.support.datasets import Row, dataset


def student(name: str, stage: str = "opd") -> Artifact:
    def build(workspace: Workspace) -> Outcome:
        (workspace.path / "model").mkdir()
        (workspace.path / "model" / "config.json").write_text(name)
        return Outcome()

    return Store().produce(
        stage, recipe=Recipe(name="night"), version=1, identity={"name": name}, parents=[], build=build
    )


def scores(of: Artifact, correct: int, answered: int = 200) -> Artifact:
    """An evaluation of 200 questions, of which so many are right."""

    def build(workspace: Workspace) -> Outcome:
        verdicts = ["correct" if n < correct else "incorrect" for n in range(answered)]
        rows = {"student": of.stage, "split": "test", "decoding": "greedy", "verdict": verdicts}
        rows["question_id"] = [str(n) for n in range(answered)]
        pl.DataFrame(rows).write_parquet(workspace.path / "answers.parquet")
        return Outcome()

    recipe = Recipe(name="night")
    return Store().produce(
        "evaluation", recipe=recipe, version=1, identity={"correct": correct, "of": answered}, parents=[of], build=build
    )


def night(name: str, correct: int, stage: str = "opd") -> list[Artifact]:
    made = student(name, stage)
    return [made, scores(made, correct)]


def test_a_worse_student_is_refused_and_a_better_or_equal_one_is_not(data: Path) -> None:
    promotion.promote("night", night("first", 150), "by hand")
    worse = gate.decide("night", night("worse", 120))
    assert worse.changed and len(worse.objections) == 1 and "-15.0%" in worse.objections[0]
    assert not gate.decide("night", night("allowed", 120), allowed=0.25).objections
    for name, correct in (("equal", 150), ("better", 170)):
        decision = gate.decide("night", night(name, correct))
        assert decision.changed and not decision.objections


def test_nothing_is_compared_with_altered_answers(data: Path) -> None:
    promotion.promote("night", before := night("before", 100), "by hand")
    new = night("new", 150)
    answers = before[1].path / "answers.parquet"
    answers.write_bytes((new[1].path / "answers.parquet").read_bytes())
    with pytest.raises(DamagedFileError, match=f"{before[1].path.name}/answers.parquet was altered"):
        gate.decide("night", new)


def test_what_cannot_be_compared_any_more_is_refused(data: Path) -> None:
    old = night("old", 150)
    promotion.promote("night", old, "by hand")
    shutil.rmtree(old[1].path)
    [objection] = gate.decide("night", night("new", 160)).objections
    assert f"{old[1].id}, which was promoted, is not in the store" in objection


def test_students_are_compared_though_the_old_one_is_deleted_or_of_another_stage(data: Path) -> None:
    old = night("old", 150)
    promotion.promote("night", old, "by hand")
    shutil.rmtree(old[0].path)
    [objection] = gate.decide("night", night("same stage", 120)).objections
    assert "accuracy of opd on test, greedy: -15.0%" in objection
    [objection] = gate.decide("night", night("other stage", 120, "sft")).objections
    assert "accuracy of sft (before: opd) on test, greedy: -15.0%" in objection
    assert not gate.decide("night", night("other stage, better", 160, "sft")).objections


def test_a_promoted_student_that_was_measured_again_counts_by_its_new_answers(data: Path) -> None:
    """Of 120 questions of the new evaluation, and not by those of the old one, of which half are gone."""
    promotion.promote("night", before := night("before", 200), "by hand")

    def beside(made: Artifact, right: dict[str, int]) -> Artifact:
        def build(workspace: Workspace) -> Outcome:
            columns = ("student", "split", "decoding", "question_id", "verdict")
            rows = [
                (student, "test", "greedy", str(100 + n), "correct" if n < count else "incorrect")
                for student, count in right.items()
                for n in range(120)
            ]
            pl.DataFrame(rows, schema=columns, orient="row").write_parquet(workspace.path / "answers.parquet")
            return Outcome()

        identity = {"promoted": before[0].fingerprint, "right": right}
        of = Recipe(name="night")
        return Store().produce(
            "evaluation", recipe=of, version=1, identity=identity, parents=[made, before[0]], build=build
        )

    worse = student("worse", "sft")
    decision = gate.decide("night", [worse, beside(worse, {"promoted": 90, "sft": 60})])
    [objection] = decision.objections
    assert (
        "accuracy of sft (before: promoted) on test, greedy: -25.0%" in objection and "over 120 questions" in objection
    )
    same = student("same")
    assert not gate.decide("night", [same, beside(same, {"promoted": 90, "opd": 90})]).objections
    shutil.rmtree(before[1].path)  # nothing of it is needed
    lower, higher = (
        gate.decide("night", [same, beside(same, {"promoted": 90, "opd": n})]).objections for n in (60, 100)
    )
    assert len(lower) == 1 and "-25.0%" in lower[0] and not higher


def test_a_student_that_nothing_measures_is_refused_where_one_was_measured(data: Path) -> None:
    old = night("old", 150)
    promotion.promote("night", old, "by hand")
    new = student("new")
    assert gate.decide("night", [new]).objections == [f"nothing measures {new.id}, and {old[1].id} was promoted"]
    untrained = scores(make("q", "questions"), 150)
    [objection] = gate.decide("night", [untrained]).objections
    assert f"{untrained.id} measures no trained student" in objection
    assert not gate.decide("other", [new]).objections  # of which nothing was promoted


def test_old_answers_that_say_nothing_of_the_student_are_an_objection(data: Path) -> None:
    made = student("old")
    promotion.promote("night", [made, scores(made, 0, answered=0)], "by hand")
    [objection] = gate.decide("night", night("new", 160)).objections
    assert "holds no answer of opd" in objection


def triples(name: str, rows: dict[str, list[Row]], failed: tuple[str, ...] = ()) -> Artifact:
    """As the stage writes them, of rows whose verdict is known."""

    def build(workspace: Workspace) -> Outcome:
        samples = dataset(name, rows).samples
        samples.write_parquet(workspace.path / "triples.parquet")
        samples.select(schema.VERDICTS.names).write_parquet(workspace.path / "verdicts.parquet")
        pl.DataFrame({"question_id": failed}).write_parquet(workspace.path / "failures.parquet")
        return Outcome()

    recipe = Recipe(name="night")
    return Store().produce("triples", recipe=recipe, version=1, identity={"name": name}, parents=[], build=build)


def of(row: Row) -> dict[str, list[Row]]:
    return {f"q{n}": [row] for n in range(40)}


def test_of_a_first_dataset_something_must_be_right_and_few_requests_failed(data: Path) -> None:
    [objection] = gate.decide("night", [triples("wrong", of(Row("2")))]).objections
    assert objection == "no answer to any of the 40 questions is correct"
    assert gate.decide("night", [triples("undecided", of(Row(None)))]).objections == [objection]
    [objection] = gate.decide("night", [triples("failed", of(Row("1")), tuple("abcdefgh"))]).objections
    assert objection.startswith("8 of 48 requests failed")
    for passing in (triples("right", of(Row("1"))), triples("no gold", of(Row("1", gold=None)))):
        decision = gate.decide("night", [passing])
        assert decision.changed and not decision.objections


def test_a_regeneration_is_compared_with_what_is_promoted_too(data: Path) -> None:
    poor, good = triples("poor", of(Row("2"))), triples("good", of(Row("1")))
    promotion.promote("night", [good], "by hand")
    decision = gate.decide("night", [triples("as poor", of(Row("2")) | {"new": [Row("1")]})], against=poor)
    assert decision.objections and all(each.startswith(f"against {good.id}: ") for each in decision.objections)
    assert {check.part.rpartition(", ")[2] for check in decision.checks} == {poor.id, good.id}
    better = triples("better", of(Row("1")) | {"new": [Row("1")]})
    assert not gate.decide("night", [better], against=poor).objections


def test_what_is_promoted_or_older_changes_nothing(data: Path) -> None:
    old, new = night("old", 100), night("new", 150)
    promotion.promote("night", new, "by hand")
    assert gate.decide("night", new).remarks == ["everything is as it was promoted"]
    stays = gate.decide("night", old)
    assert not stays.changed and "older than the promotion" in stays.remarks[0]


def test_a_promotion_of_some_stages_leaves_the_others(data: Path) -> None:
    made = night("first", 100)
    promotion.promote("night", made, "by hand")
    triples = make("t", "triples")
    pointer = promotion.promote("night", [triples], "by hand")
    assert pointer.artifacts == {**{artifact.stage: artifact.id for artifact in made}, "triples": triples.id}
    assert promotion.promoted("night") == pointer and promotion.promoted("other") is None


def test_a_promotion_waits_for_the_decision_of_another(data: Path) -> None:
    made = make("t", "triples")
    with promotion.changing("night"):
        waiting = threading.Thread(target=promotion.promote_lineage, args=(Store(), made, "by hand"))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and promotion.promoted("night") is None
    waiting.join(10)
    assert promotion.promoted("night")


@pytest.mark.serves
def test_by_hand_an_artifact_is_promoted_with_all_it_was_made_from(data: Path) -> None:
    questions = make("q", "questions")
    triples = make("t", "triples", questions)
    said = cohobate("promote", triples.id, data=data)
    assert said.returncode == 0, said.stderr
    pointer = promotion.promoted("night")
    assert pointer and pointer.artifacts == {"questions": questions.id, "triples": triples.id}


def test_a_damaged_pointer_is_one_sentence(data: Path) -> None:
    promotion.promote("night", night("first", 100), "by hand")
    (data / "promoted" / "night.json").write_text("{")
    with pytest.raises(StoreError, match=r"night\.json cannot be read as a promotion"):
        promotion.promoted("night")
