"""One prompt, many samples: every arm makes the same steps from the same start, and the table says how they end."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.config.single import Single
from cohobate.errors import QuestionsError, RecipeError
from cohobate.recipes import load_recipe
from cohobate.single import MANY, ONE, SFT, START, Scored, on_answers, on_policy, section, summarise
from cohobate.stages import opd, sft, single, triples
from cohobate.store import Artifact, Store
from tests.pipeline import Finished


@pytest.fixture
def recipe(tiny: Recipe) -> Recipe:
    return tiny.model_copy(update={"single": Single(rollouts=6, steps=2, seeds=1, limit=12)})


@pytest.fixture
def made(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artifact]:
    """A copy of the finished run, by stage, since this experiment adds to the data folder."""
    shutil.copytree(finished.root, tmp_path / "data")
    monkeypatch.setenv("COHOBATE_DATA", str(tmp_path / "data"))
    return {artifact.stage: artifact for artifact in Store().all()}


def test_all_arms_have_as_many_sequences(recipe: Recipe) -> None:
    one, many = (on_policy(recipe, 3, one=one).opd for one in (True, False))
    assert (one.prompts, one.group) == (1, 6) and (many.prompts, many.group) == (6, 1)
    assert one.steps == many.steps == 2 and one.seed == many.seed == 3 and one.warmup <= one.steps
    copied = on_answers(recipe, 3)
    assert (copied.sft.batch, copied.sft.steps, copied.triples.samples, copied.triples.seed) == (6, 2, 6, 3)
    assert one.lr == many.lr == copied.sft.lr == Single().lr
    assert load_recipe("oneprompt").single == Single(question=1)


def test_the_arms_run_from_one_start_and_make_a_table(recipe: Recipe, made: dict[str, Artifact]) -> None:
    questions, start = made["questions"], made["sft"]
    prompt = single.one_prompt(recipe, questions)
    asked = pl.read_parquet(prompt.path / "questions.parquet")
    assert dict(asked.group_by("split").len().iter_rows()) == {"fresh": 1, "train": 1, "validation": 16}
    given = made["triples"]
    one = opd.train(on_policy(recipe, 0, one=True), start, prompt, given)
    rollouts = pl.read_parquet(one.path / "rollouts.parquet")
    assert rollouts["question_id"].n_unique() == 1 and len(rollouts) == 12 and rollouts["text"].n_unique() > 6
    many = opd.train(on_policy(recipe, 0, one=False), start, questions, given)
    assert pl.read_parquet(many.path / "rollouts.parquet")["question_id"].n_unique() == 12
    answers = triples.write(on_answers(recipe, 0), prompt)
    copied = sft.train(on_answers(recipe, 0, start), answers, prompt)
    metrics = copied.manifest.metrics
    assert isinstance(metrics, dict) and metrics["triples"] == 6
    arms = ((START, start), (ONE, one), (MANY, many), (SFT, copied))
    found = [Scored(arm, 0, single.held_out(recipe, questions, model)) for arm, model in arms]
    table = single.write(recipe, prompt, found)
    text = (table.path / "report.md").read_text(encoding="utf-8")
    assert all(arm in text for arm in (START, ONE, MANY, SFT)) and asked["question"][0] in text
    page = (table.path / "index.html").read_text(encoding="utf-8")
    assert all(one.exam.id in page for one in found)
    scores = pl.read_parquet(table.path / "scores.parquet")
    assert set(scores["n"]) == {12} and len(scores) == 8


def test_means_are_over_seeds_and_the_start_has_the_interval_of_its_questions() -> None:
    def rows(arm: str, values: list[float]) -> list[dict[str, object]]:
        rest = {"low": 0.1, "high": 0.2, "mean_tokens": 7.0}
        return [
            {"arm": arm, "seed": seed, "decoding": decoding, "accuracy": value, **rest}
            for seed, value in enumerate(values)
            for decoding in ("greedy", "sampled")
        ]

    start, one = summarise([*rows(START, [0.15]), *rows(ONE, [0.8, 0.9, 1.0])])
    assert start["greedy"] == {"mean": 0.15, "low": 0.1, "high": 0.2}
    assert one["seeds"] == 3 and one["greedy"]["low"] == pytest.approx(0.9 - 0.24843, abs=1e-4)


def test_mistakes_are_one_sentence(recipe: Recipe, made: dict[str, Artifact]) -> None:
    with pytest.raises(RecipeError, match=r"no section \[single\]"):
        section(load_recipe("tiny"))
    far = recipe.model_copy(update={"single": Single(question=999)})
    with pytest.raises(QuestionsError, match=r"no single\.question 999"):
        single.one_prompt(far, made["questions"])
