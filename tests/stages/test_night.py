"""A night from the promoted student: the rows it learns, its steps, what it is judged by, and what is refused."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from benchmarks import nights
from cohobate.config import Recipe
from cohobate.config.load import changed, load_recipe
from cohobate.core.errors import QuestionsError, StoreError
from cohobate.stages import night, questions, sft, triples
from cohobate.store import promotion
from cohobate.store.artifacts import DATA, Artifact, Store
from tests.support.pipeline import SMALL, Finished


@dataclass(frozen=True)
class Nights:
    """A first run, promoted, and the night after it with six more questions to answer and eight more to roll out on."""

    root: Path
    recipe: Recipe
    first: dict[str, Artifact]
    second: nights.Night

    @property
    def rows(self) -> Artifact:
        return next(each for each in Store(self.root).all() if each.stage == "night")

    def made(self, stage: str) -> Artifact:
        [artifact] = [each for each in self.second.artifacts if each.stage == stage]
        return artifact


def promote(recipe: Recipe, artifacts: list[Artifact]) -> None:
    with promotion.changing(recipe.name):
        promotion.promote(recipe.name, artifacts, "by hand")


def from_promoted(recipe: Recipe, **sections: object) -> Recipe:
    return changed(recipe, {"nightly": {"from": "promoted"}, **sections}, "a night")


@pytest.fixture(scope="module")
def two(finished: Finished, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    root = tmp_path_factory.mktemp("nights") / "data"
    shutil.copytree(finished.root, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA, str(root))
        first = {each.stage: each for each in Store().all()}
        promote(tiny, list(first.values()))
        recipe = from_promoted(tiny, questions={"train": 70, "fresh": 72})
        yield Nights(root, recipe, first, nights.run(recipe))


@pytest.fixture
def after(two: Nights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nights:
    """The data of both nights, as a copy of the test's own."""
    shutil.copytree(two.root, root := tmp_path / "data")
    monkeypatch.setenv(DATA, str(root))
    return Nights(root, two.recipe, two.first, two.second)


def correct(triples: Artifact) -> set[str]:
    """The ids of the samples that were judged right."""
    return set(pl.read_parquet(triples.path / "verdicts.parquet").filter(verdict="correct")["sample_id"])


def fresh(questions: Artifact) -> set[str]:
    return set(pl.read_parquet(questions.path / "questions.parquet").filter(split="fresh")["question_id"])


@pytest.mark.trains
def test_a_night_learns_what_is_new_and_as_many_old_rows(two: Nights) -> None:
    before, now = correct(two.first["triples"]), correct(two.made("triples"))
    rows = pl.read_parquet(two.rows.path / "rows.parquet")
    parts = {key[0]: set(part["id"]) for key, part in rows.filter(kind="sample").group_by("part")}
    assert parts["new"] == now - before and len(parts["new"]) > 0
    assert parts["replayed"] <= before and len(parts["replayed"]) == len(parts["new"])
    assert set(pl.read_parquet(two.rows.path / "triples.parquet")["sample_id"]) == parts["new"] | parts["replayed"]
    learned, old, new = fresh(two.rows), fresh(two.first["questions"]), fresh(two.made("questions"))
    assert len(new - old) == 8 and new - old <= learned and len(learned & old) == 8


@pytest.mark.trains
def test_steps_are_in_proportion_to_the_rows(two: Nights) -> None:
    now = correct(two.made("triples"))
    share = 2 * len(now - correct(two.first["triples"])) / len(now)
    assert two.made("sft").manifest.named_metrics["steps"] == math.ceil(two.recipe.sft.steps * share)
    assert two.made("opd").manifest.named_metrics["steps"] == math.ceil(two.recipe.opd.steps * 16 / 72)


@pytest.mark.trains
def test_the_ledger_says_that_a_night_costs_part_of_a_full_run(two: Nights, finished: Finished) -> None:
    """The share of its rows in each stage; a step is the least, of which the tiny recipe makes few."""
    full = nights.Night(list(finished.artifacts.values()), two.second.decision)
    before = nights.Night(list(two.first.values()), two.second.decision)
    assert two.second.flops() == two.second.flops(before) > 0 and full.flops() == before.flops()
    assert two.second.flops(before) < 0.45 * full.flops()
    for stage in ("sft", "opd"):
        made, whole = (
            sum(entry["flops"] for entry in each.manifest.ledger if "update" in entry["work"])
            for each in (two.made(stage), two.first[stage])
        )
        steps = two.made(stage).manifest.named_metrics["steps"] / getattr(two.recipe, stage).steps
        assert made / whole == pytest.approx(steps, rel=0.5)


@pytest.mark.trains
def test_added_questions_leave_every_other_one_in_its_split(two: Nights) -> None:
    splits = [
        dict(pl.read_parquet(each.path / "questions.parquet").select("question_id", "split").iter_rows())
        for each in (two.first["questions"], two.made("questions"), two.rows)
    ]
    first, second, learnt = splits
    assert len(second) == len(first) + 14 and first.items() <= second.items()
    held_out = {name for name, split in second.items() if split not in ("train", "fresh")}
    assert held_out == {name for name, split in learnt.items() if split not in ("train", "fresh")}


@pytest.mark.trains
def test_the_lineage_names_the_promoted_student_and_the_rows(two: Nights) -> None:
    student, start = two.first["opd"], two.made("sft")
    assert [parent.id for parent in start.manifest.parents] == [two.rows.id, two.rows.id, student.id]
    assert {two.first["triples"].id, two.first["questions"].id, student.id} <= {p.id for p in two.rows.manifest.parents}
    ancestors = {each.id for each in promotion.lineage(Store(two.root), two.made("report"))}
    assert {each.id for each in two.first.values() if each.stage not in ("evaluation", "report")} <= ancestors


@pytest.mark.trains
def test_the_student_is_judged_beside_the_promoted_one_on_every_question(two: Nights) -> None:
    answers = pl.read_parquet(two.made("evaluation").path / "answers.parquet")
    assert set(answers["student"]) == {"promoted", "opd"}
    checks = [check for check in two.second.decision.checks if check.part == "student"]
    asked = answers.filter(student="opd").group_by("split").len()
    assert {check.questions for check in checks} == set(asked["len"]) and len(checks) == len(asked)
    share = (answers.filter(student="promoted", split="test")["verdict"] == "correct").mean()
    [on_test] = [check for check in checks if "on test" in check.measure]
    assert on_test.before == pytest.approx(share)
    page = (two.made("report").path / "report.md").read_text()
    assert "The night takes the promoted student from" in page and two.rows.id in page


@pytest.mark.trains
def test_the_same_night_again_is_a_hit_and_one_without_new_rows_changes_nothing(after: Nights) -> None:
    promote(after.recipe, list(after.first.values()))
    again = nights.run(after.recipe)
    made = {each.stage: each.id for each in after.second.artifacts}
    assert {each.stage: each.id for each in again.artifacts} == made and all(each.cached for each in again.artifacts)
    assert promotion.promoted("tiny") is not None and not again.decision.objections
    idle = nights.run(after.recipe)
    assert {each.stage: each.id for each in idle.artifacts} == made and all(each.cached for each in idle.artifacts)
    assert not idle.decision.changed and idle.flops(again) == 0 < again.flops()


@pytest.mark.trains
def test_another_night_replays_other_rows_and_knows_all_that_was_learned(after: Nights) -> None:
    recipe = from_promoted(after.recipe, questions={"train": 80}, sft={"steps": 1, "warmup": 0}, opd={"steps": 0})
    promoted = night.promoted_run(recipe)
    assert promoted and promoted.student.id == after.made("opd").id
    source = questions.write(recipe)
    rows = night.write(recipe, promoted, source, triples.write(recipe, source))
    tables = [pl.read_parquet(each.path / "rows.parquet").filter(kind="sample") for each in (after.rows, rows)]
    learnt, third = ({key[0]: set(part["id"]) for key, part in table.group_by("part")} for table in tables)
    assert third["new"] and third["new"].isdisjoint(learnt["new"] | learnt["replayed"])
    assert third["replayed"] != learnt["replayed"]
    table = pl.read_parquet(source.path / "questions.parquet").filter(pl.col("split").is_in(["train", "fresh"]))
    assert len(pl.read_parquet(rows.path / "learned.parquet")) == len(table)


@pytest.mark.trains
def test_a_student_that_began_otherwise_is_refused(after: Nights, tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "data" / "world" / "base", other := tmp_path / "other")
    tokenizer = other / "tokenizer_config.json"
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), "clean_up_tokenization_spaces": True}))
    for student, said in (
        ({"model": str(other)}, "was trained from another base than student.model"),
        ({"prompt": "Q: {question}"}, r"was trained with another student\.prompt"),
        ({"system": "Be brief."}, r"was trained with another student\.system"),
        ({"template_args": {"thinking": False}}, r"was trained with another student\.template_args"),
    ):
        with pytest.raises(StoreError, match=said):
            night.promoted_run(from_promoted(after.recipe, student=student))
    with pytest.raises(StoreError, match=r"was trained with another sft\.format; set nightly\.from = 'base'"):
        night.promoted_run(from_promoted(after.recipe, sft={"format": "plain"}, opd={"steps": 0}))
    shutil.rmtree(after.root / after.first["triples"].id)
    shutil.rmtree(after.root / after.made("triples").id)
    with pytest.raises(StoreError, match="was trained on is not in the store"):
        night.promoted_run(after.recipe)


def test_nothing_promoted_is_no_promoted_run(data: Path, tiny: Recipe) -> None:
    assert night.promoted_run(from_promoted(tiny)) is None


def file_of(path: Path, moved: str = "") -> Path:
    """Twelve questions of a file with a column for their splits; `moved` is one that was to learn from, and is not."""
    splits = ("train", "train", "fresh", "test")
    rows = [{"question": f"{n} + 1 = ?", "gold_answer": str(n + 1), "split": splits[n % 4]} for n in range(12)]
    lines = [{**row, "split": "test"} if row["question"] == moved else row for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.trains
@pytest.mark.parametrize("moved", ["0 + 1 = ?", "2 + 1 = ?"])
def test_a_question_that_was_learned_is_not_evaluated_on(data: Path, tmp_path: Path, moved: str) -> None:
    path = file_of(tmp_path / "sums.jsonl")
    settings = ["questions.source=file", f"questions.path={path}", "sft.steps=1", "sft.warmup=0", "opd.steps=0"]
    recipe = from_promoted(load_recipe("tiny", [*SMALL, *settings, "sft.select=all", "triples.max_tokens=16"]))
    source = questions.write(recipe)
    promote(recipe, [source, taught := triples.write(recipe, source), sft.train(recipe, taught, source)])
    promoted = night.promoted_run(recipe)
    assert promoted
    night.require_held_out(recipe, promoted, source)
    file_of(path, moved)
    with pytest.raises(QuestionsError, match=rf"1 questions of the split test, such as '{moved[0]} \+ 1 = \?'"):
        night.require_held_out(recipe, promoted, questions.write(recipe))
