"""One prompt, many samples: every arm makes the same steps from the same start, and the table says how they end."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from cohobate.config import Recipe, Single
from cohobate.config.load import changed, load_recipe
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.core.statistics import Interval
from cohobate.experiments.single_prompt import stages
from cohobate.experiments.single_prompt.arms import (
    MANY,
    ONE,
    SFT,
    START,
    ArmExam,
    checked_section,
    on_answers,
    on_policy,
    order,
    sft_arm,
)
from cohobate.experiments.single_prompt.page import DecodingScores, summarise
from cohobate.stages import opd, sft, triples
from cohobate.store.artifacts import Artifact, Store
from tests.support.pipeline import Finished

pytestmark = pytest.mark.trains


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
    assert one.lr == many.lr == Single().lr and copied.sft.lr == Single().sft_lr[0]


def test_an_objective_that_compares_rollouts_of_a_prompt_is_refused(recipe: Recipe) -> None:
    rewarded = changed(recipe, {"opd": {"objective": "grpo", "grpo": {"teacher": 0.5}}}, "test")
    with pytest.raises(RecipeError, match="one rollout of each"):
        checked_section(rewarded)
    with pytest.raises(RecipeError, match="set group to 2 or more"):
        on_policy(rewarded, 0, one=False)


def test_sft_has_an_arm_for_each_of_its_learning_rates() -> None:
    shipped = load_recipe("oneprompt")
    config = checked_section(shipped)
    arms = [sft_arm(config, lr) for lr in config.sft_lr]
    assert len(set(arms)) == len(arms) > 1 and order(config) == [START, ONE, MANY, *arms]
    assert [on_answers(shipped, 0, lr=lr).sft.lr for lr in config.sft_lr] == list(config.sft_lr)
    assert sft_arm(Single(), Single().sft_lr[0]) == SFT


def test_a_share_of_the_start_learns_the_answer_alone(recipe: Recipe, made: dict[str, Artifact]) -> None:
    def cut(share: float) -> tuple[pl.DataFrame, set[str]]:
        asked = recipe.model_copy(update={"single": Single(bare=share)})
        frame = pl.read_parquet(stages.without_rationales(asked, made["triples"]).path / "triples.parquet")
        without = frame.filter(pl.col("rationale").is_null() & pl.col("answer").is_not_null())
        return frame, set(without["sample_id"])

    whole = pl.read_parquet(made["triples"].path / "triples.parquet")
    half, fewer = cut(0.5)
    every, all_of_them = cut(1.0)
    assert 0.2 < len(fewer) / len(whole) < 0.8 and fewer < all_of_them
    assert set(every["response"]) == {f"Answer: {answer}" for answer in whole["answer"]}
    kept = half.filter(~pl.col("sample_id").is_in(fewer))
    assert kept.equals(whole.filter(~pl.col("sample_id").is_in(fewer)))
    untouched = recipe.model_copy(update={"single": Single()})
    assert stages.without_rationales(untouched, made["triples"]) is made["triples"]


def test_the_start_with_bare_answers_is_trained_on_them(recipe: Recipe, made: dict[str, Artifact]) -> None:
    asked = recipe.model_copy(update={"single": Single(bare=1.0)})
    given = stages.without_rationales(asked, made["triples"])
    student = sft.train(asked, given, made["questions"])
    before, after = (pl.read_parquet(part.path / "metrics.parquet")["tokens"].sum() for part in (made["sft"], student))
    assert after < before / 2


def test_the_arms_run_from_one_start_and_make_a_table(recipe: Recipe, made: dict[str, Artifact]) -> None:
    questions, start = made["questions"], made["sft"]
    prompt = stages.choose_prompt(recipe, questions)
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
    exams = [ArmExam(arm, 0, stages.measure_held_out(recipe, questions, model), model) for arm, model in arms]
    table = stages.write_table(recipe, prompt, exams)
    text = (table.path / "report.md").read_text(encoding="utf-8")
    assert all(arm in text for arm in (START, ONE, MANY, SFT)) and asked["question"][0] in text
    page = (table.path / "index.html").read_text(encoding="utf-8")
    assert all(each.exam.id in page for each in exams)
    scores = pl.read_parquet(table.path / "scores.parquet")
    assert set(scores["n"]) == {12} and len(scores) == 8
    losses = pl.read_parquet(copied.path / "metrics.parquet")["loss"].to_list()
    of_sft = scores.filter(pl.col("arm") == SFT)
    for row in scores.iter_rows(named=True):  # correct answers with a rationale are among the correct ones
        assert row["worked_out"] * (row["right_of_worked_out"] or 0) <= row["accuracy"] + 1e-9
    assert set(of_sft["first_loss"]) == {losses[0]} and set(of_sft["last_loss"]) == {losses[-1]}
    assert scores.filter(pl.col("arm") == START)["first_loss"].is_null().all()


def test_means_are_over_seeds_and_the_start_has_the_interval_of_its_questions() -> None:
    def rows(arm: str, values: list[float]) -> list[dict[str, object]]:
        names = ("worked_out", "right_of_worked_out", "first_loss", "last_loss", "mean_tokens")
        rest = {"n": 40, "low": 0.1, "high": 0.2} | dict.fromkeys(names, 7.0)
        return [
            {"arm": arm, "seed": seed, "decoding": decoding, "accuracy": value, **rest}
            for seed, value in enumerate(values)
            for decoding in ("greedy", "sampled")
        ]

    start, one = summarise([*rows(START, [0.15]), *rows(ONE, [0.8, 0.9, 1.0])])
    assert start.scores["greedy"] == DecodingScores(Interval(0.15, 0.1, 0.2), 7.0, 7.0)
    assert one.seeds == 3 and one.mean_tokens == 7.0
    assert one.scores["greedy"].accuracy.low == pytest.approx(0.9 - 0.24843, abs=1e-4)


def test_mistakes_are_one_sentence(recipe: Recipe, made: dict[str, Artifact]) -> None:
    with pytest.raises(RecipeError, match=r"no section \[single\]"):
        checked_section(load_recipe("tiny"))
    far = recipe.model_copy(update={"single": Single(question=999)})
    with pytest.raises(QuestionsError, match=r"no single\.question 999"):
        stages.choose_prompt(far, made["questions"])
