"""The shares of a small file of questions: who gets how many, and that none lies idle without a word."""

import json
from pathlib import Path

import polars as pl
import pytest

from cohobate.config.load import changed, load_recipe
from cohobate.stages import questions
from cohobate.stages.preflight.checklist import CHECKS, run
from cohobate.stages.preflight.scope import BOTH, Scope


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "thirty.jsonl"
    rows = [{"question": f"What is {n} + {n * n}?", "gold_answer": str(n + n * n)} for n in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    path.with_suffix(".toml").write_text("[questions]\nsource = 'file'\npath = 'thirty.jsonl'\n")
    return path


def ids(path: Path, *overrides: str) -> dict[str, set[str]]:
    """The questions of each split."""
    recipe = load_recipe(str(path.with_suffix(".toml")), overrides)
    frame = pl.read_parquet(questions.write(recipe).path / "questions.parquet")
    return {split: set(rows["question_id"]) for (split,), rows in frame.group_by("split")}


def said(path: Path, *overrides: str) -> str:
    recipe = load_recipe(str(path.with_suffix(".toml")), overrides)
    [finding] = run([check for check in CHECKS if check.name == "questions"], Scope(recipe, BOTH, True))
    assert finding.passed
    return finding.detail


def test_without_opd_its_share_is_trained_on(data: Path, small_file: Path) -> None:
    with_opd, without = ids(small_file), ids(small_file, "opd.steps=0")
    assert len(with_opd["fresh"]) > 5
    assert without == {
        "train": with_opd["train"] | with_opd["fresh"],
        "validation": with_opd["validation"],
        "test": with_opd["test"],
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["questions.split={train=0.4, fresh=0.4, validation=0.05, test=0.15}"],
        ["questions.split={}"],
        ["triples.split='fresh'"],
        ["compare.methods.on={opd={steps=20}}"],
    ],
)
def test_shares_that_somebody_wants_stay(data: Path, small_file: Path, overrides: list[str]) -> None:
    assert ids(small_file, "opd.steps=0", *overrides) == ids(small_file)


def test_a_change_of_a_recipe_does_not_move_them_twice(small_file: Path) -> None:
    recipe = load_recipe(str(small_file.with_suffix(".toml")), ["opd.steps=0"])
    again = changed(recipe, {"opd": {"steps": 20}}, "test")
    assert again.questions.split == recipe.questions.split and recipe.questions.split.train == pytest.approx(0.8)
    assert changed(recipe, {}, "test") == recipe


def test_preflight_tells_who_gets_how_many(data: Path, small_file: Path) -> None:
    counts = {split: len(rows) for split, rows in ids(small_file).items()}
    assert said(small_file) == (
        f"30 questions: {counts['train']} train for the teacher and sft, {counts['fresh']} fresh for on-policy "
        f"distillation, {counts['validation']} validation for evaluation points, {counts['test']} test for evaluation"
    )
    split = "questions.split={train=0.4, fresh=0.4, validation=0.05, test=0.15}"
    assert f"{counts['fresh']} fresh for no stage, since opd.steps = 0" in said(small_file, "opd.steps=0", split)
    assert f"{counts['train'] + counts['fresh']} train for the teacher" in said(small_file, "opd.steps=0")
