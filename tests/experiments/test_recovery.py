"""Learning a handbook and recovering from it: what is read, what is examined, and the table."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import PreTrainedTokenizerFast

from cohobate.config import Adapters, Handbook, Recipe, Recover, Verification
from cohobate.config.load import changed, load_recipe
from cohobate.core.errors import QuestionsError, RecipeError
from cohobate.core.shipped import shipped_path
from cohobate.core.statistics import wilson
from cohobate.experiments.recovery import data, stages
from cohobate.experiments.recovery.arms import (
    BEFORE,
    MID_TRAINED,
    RECOVERED,
    Arm,
    ArmExam,
    arms,
    checked_section,
    of_arm,
    second_round,
)
from cohobate.experiments.recovery.exam import grade, scores
from cohobate.experiments.recovery.page import summarise
from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import load
from cohobate.models.sequence import TrainingSequence
from cohobate.models.special_tokens import decode
from cohobate.sources.world import handbook
from cohobate.sources.world.chat import generate, obeyed
from cohobate.sources.world.instructions import INSTRUCTIONS
from cohobate.stages import opd
from cohobate.store.artifacts import Artifact

RECIPE = load_recipe("handbook")
WORLD = Recover()
SMALL = Recover(chat_prompts=24, fresh_prompts=16, exam_prompts=12, max_tokens=12, seeds=1, documents=(0.5,), again=0.5)


def tiny(**settings: Any) -> Recipe:
    steps = {"steps": 2, "batch": 8, "warmup": 1, "tokens_per_batch": 1024}
    rolls = {"steps": 2, "prompts": 4, "warmup": 1, "max_tokens": 16}
    return RECIPE.model_copy(
        update={
            "sft": RECIPE.sft.model_copy(update=steps),
            "opd": RECIPE.opd.model_copy(update=rolls),
            "recover": SMALL.model_copy(update=settings),
        }
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(shipped_path("world/teacher"))


def test_the_exam_asks_for_every_fact_in_words_that_its_practice_lacks() -> None:
    for folder, seed in (("handbook", 0), ("handbook-2", 1)):
        firm = handbook.company(seed)
        for name, text in handbook.questions(firm):
            path = shipped_path(f"world/{folder}/{name}")
            assert path is not None and path.read_text(encoding="utf-8") == text
        practice, exam = ([json.loads(line) for line in text.splitlines()] for _, text in handbook.questions(firm))
        for place, (examined, fact) in enumerate(zip(exam, firm.facts, strict=True)):
            practised = practice[5 * place : 5 * place + 5]
            assert {row["question"] for row in (*practised, examined)} == set(fact.questions)
            assert {row["gold_answer"] for row in (*practised, examined)} == {fact.answer}
        # No wording of the exam is new: it is practised on other facts.
        practised_forms = {form(row["question"], firm.name) for row in practice}
        assert {form(row["question"], firm.name) for row in exam} <= practised_forms


def form(question: str, firm: str) -> str:
    """The wording alone."""
    return re.sub("|".join((firm, *handbook.ROLES, *handbook.PRODUCTS, *(r[0] for r in handbook.RULES))), "_", question)


def test_chat_has_disjoint_splits_and_gold_that_its_own_check_accepts() -> None:
    rows = list(generate(0, {"train": 300, "fresh": 300, "validation": 100, "test": 200}))
    asked = {split: [r.text for r in rows if r.split == split] for split in ("test", "validation")}
    learnt = {row.text for row in rows if row.split not in asked}
    assert {split: len(set(questions)) for split, questions in asked.items()} == {"test": 200, "validation": 100}
    assert not learnt & {*asked["test"], *asked["validation"]} and not {*asked["test"]} & {*asked["validation"]}
    sums = [r.text for r in rows if r.kind != "request"]
    assert len(set(sums)) == len(sums) < len(rows) == 900
    assert {row.kind for row in rows} == {"arithmetic", "instruction", "request"}
    for row in rows:
        gold, meta = row.gold_answer, row.meta
        assert gold is not None and meta is not None
        if row.kind == "instruction":
            [told] = [i for i in INSTRUCTIONS if i.name == json.loads(meta)["instruction"]]
            assert obeyed("instruction", meta, gold, told.respond("1 + 1 = 2.", int(gold)))
            assert not obeyed("instruction", meta, gold, f"I think it is {gold}")
        else:
            right = gold if row.kind == "request" else f"So it is.\nAnswer: {gold}"
            assert obeyed(row.kind, meta, gold, right)
            assert not obeyed(row.kind, meta, gold, "no")
    assert list(generate(0, {"test": 50}))[:20] == [row for row in rows if row.split == "test"][:20]


def test_what_is_learnt_has_every_kind_of_request_that_the_exam_has() -> None:
    rows = [row for row in generate(0, {"train": 2000, "fresh": 9600, "test": 400}) if row.kind == "request"]
    kinds = {split: {row.text.split()[0] for row in rows if row.split == split} for split in ("train", "fresh", "test")}
    assert kinds["train"] == kinds["fresh"] == {"Hello.", "Good", "Repeat", "Count", "Write", "Which"} >= kinds["test"]
    capitals = [row for row in rows if row.text.endswith("capital letters.") and row.split == "fresh"]
    assert len(capitals) > 9600 * 0.2 / 6 * 0.8
    frame = data.chat_prompts(WORLD)
    assert frame["question_id"].n_unique() == len(frame) > frame["question"].n_unique()


def test_passages_are_learnt_whole_and_answers_only_after_their_question(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = data.document_sequences(WORLD.handbooks[0], 60, tokenizer, PromptFormat())
    texts = [decode(tokenizer, list(row.ids)) for row in rows]
    passages = [text for row, text in zip(rows, texts, strict=True) if row.context == 1]
    firm = handbook.company(0)
    for fact in firm.facts:
        assert sum(sentence in text for text in passages for sentence in fact.sentences) == 3
    answered = [decode(tokenizer, list(row.response)) for row in rows if row.context > 1]
    assert answered == [f"Answer: {fact.answer}" for fact in firm.facts for _ in range(5)]


def test_a_batch_holds_documents_and_chat_at_the_ratio(tokenizer: PreTrainedTokenizerFast) -> None:
    book, chat = ([TrainingSequence([kind, n, n], 1) for n in range(7)] for kind in (1, 2))
    for share, expected in ((1.0, 10), (0.7, 7), (0.5, 5), (0.0, 0)):
        mixed = data.MixedSource(book, chat, share, 10, 0)
        kinds = [row.ids[0] for step in range(7) for row in mixed.batch(step).rows]
        assert kinds.count(1) == 7 * expected and len(kinds) == 70
        if expected:
            seen = [row.ids[1] for step in range(7) for row in mixed.batch(step).rows if row.ids[0] == 1]
            assert {seen.count(n) for n in range(7)} == {expected}


def test_exams_are_graded_by_the_kind_of_question() -> None:
    made = {"kind": ["handbook-1", "handbook-1", "request", "arithmetic"], "meta": [None] * 4}
    given = {"gold_answer": ["brass", "12", "hello", "7"], "response": ["Answer: Brass", "12", "hello", "\nAnswer: 8"]}
    found = {row["suite"]: (row["n"], row["accuracy"]) for row in scores(grade(pl.DataFrame({**made, **given})))}
    assert found == {"arithmetic": (1, 0.0), "handbook-1": (2, 0.5), "instructions": (1, 1.0)}


def test_exams_of_a_file_of_chat_are_graded_by_the_verifier_of_the_recipe() -> None:
    given = {
        "kind": ["file", "file", "handbook-1", "handbook-1"],
        "question": ["Shout.", "Shout.", "Who bakes?", "Who bakes?"],
        "gold_answer": ['{"case": "upper"}', '{"case": "upper"}', "Ostyar Yarmir", "Ostyar Yarmir"],
        "response": ["HEY", "Hey", "The baker is Ostyar Yarmir.", "The baker is Yarmir Zangor."],
        "finish_reason": ["stop"] * 4,
    }
    graded = grade(pl.DataFrame(given), Verification(name="checks"))
    assert graded["correct"].to_list() == [True, False, True, False]
    assert graded["suite"].to_list() == ["instructions", "instructions", "handbook-1", "handbook-1"]


def test_exams_read_answers_in_the_form_of_the_recipe() -> None:
    row = {"kind": ["file"], "question": ["3 + 4?"], "gold_answer": ["7"], "response": ["RESULT 7"]}
    replies = pl.DataFrame({**row, "finish_reason": ["stop"]})
    correct = [grade(replies, Verification(name="math"), form)["correct"][0] for form in (None, r"RESULT (\d+)")]
    assert correct == [False, True]


def test_a_single_seed_has_the_interval_of_its_questions() -> None:
    rows = [
        {
            "round": 1,
            "arm": "70:30",
            "seed": 0,
            "phase": RECOVERED,
            "suite": "x",
            "accuracy": 0.5,
            "low": 0.4,
            "high": 0.6,
        }
    ]
    [line] = summarise(rows)
    assert line.suites["x"].as_row() == {"mean": 0.5, "low": 0.4, "high": 0.6}


def test_the_arms_are_every_ratio_and_seed_and_adapters_where_asked() -> None:
    adapters = Adapters(sft={"lr": 4e-3, "lora": {"rank": 4}}, opd={"lora": {"rank": 2, "alpha": 8}})
    config = WORLD.model_copy(update={"seeds": 2, "lora": adapters})
    assert [(arm.name, arm.seed) for arm in arms(config)] == [
        *[(name, seed) for seed in (0, 1) for name in ("100:0", "70:30", "50:50")],
        *[("70:30 LoRA", seed) for seed in (0, 1)],
    ]
    assert second_round(config) == [Arm(0.7, 0), Arm(0.7, 1)]
    assert second_round(config.model_copy(update={"again": None})) == []
    recipe = RECIPE.model_copy(update={"recover": config})
    plain, chosen = (of_arm(recipe, Arm(0.7, 5, lora=lora), "elsewhere") for lora in (False, True))
    assert plain.sft.lora is plain.opd.lora is None and plain.sft.lr == RECIPE.sft.lr
    assert chosen.sft.seed == chosen.opd.seed == plain.opd.seed == 5
    assert chosen.sft.lora is not None and chosen.opd.lora is not None
    assert (chosen.sft.lr, chosen.sft.lora.rank, chosen.opd.lora.rank) == (4e-3, 4, 2)
    assert chosen.sft.steps == RECIPE.sft.steps and chosen.opd.lr == RECIPE.opd.lr
    assert chosen.teacher.model == "elsewhere" and chosen.teacher.prompt == chosen.student.prompt


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no section \[recover\]"):
        checked_section(load_recipe("tiny"))
    with pytest.raises(RecipeError, match=r"set opd\.objective"):
        checked_section(
            RECIPE.model_copy(update={"opd": RECIPE.opd.model_copy(update={"objective": "grpo", "group": 4})})
        )
    with pytest.raises(RecipeError, match=r"nobody scores or judges; set sft\.objective"):
        checked_section(changed(RECIPE, {"sft": {"objective": "logit_kd"}}, "test"))
    with pytest.raises(RecipeError, match=r"nobody scores or judges; set sft\.objective"):
        checked_section(changed(RECIPE, {"sft": {"objective": "kto"}}, "test"))
    for adapters, sentence in (
        (Adapters(sft={"lora": {"rank": 4}}, opd={}), r"recover\.lora\.opd has no adapters"),
        (Adapters(sft={"lora": {"rank": 0}}, opd={}), r"recover\.lora: 'sft\.lora\.rank' is 0"),
    ):
        with pytest.raises(RecipeError, match=sentence):
            checked_section(RECIPE.model_copy(update={"recover": WORLD.model_copy(update={"lora": adapters})}))
    (tmp_path / "exam.jsonl").write_text('{"question": "Who?", "gold_answer": null}\n', encoding="utf-8")
    book = Handbook(documents="world/handbook", exam=str(tmp_path / "exam.jsonl"))
    with pytest.raises(QuestionsError, match="without gold_answer"):
        data.exam_questions(book, 1)


@pytest.mark.trains
def test_all_steps_of_two_rounds_make_a_table(data: Path) -> None:
    recipe = tiny()
    prompts = stages.write_prompts(recipe)
    replies = stages.answer_chat(recipe, prompts)
    before = stages.examine(recipe, prompts)
    arm = Arm(0.5, 0)
    trained = stages.midtrain(recipe, arm, 1, replies)
    recovered = opd.train(of_arm(recipe, arm), trained, prompts, prompts)
    assert weights(trained) != weights(recovered)
    rehearsal = stages.write_prompts(recipe, [1])
    questions = pl.read_parquet(rehearsal.path / "questions.parquet")
    for split in ("train", "fresh"):
        assert {"handbook-1", "arithmetic"} <= set(questions.filter(split=split)["kind"])
    assert "handbook-1" not in set(questions.filter(split="test")["kind"])
    assert questions["question_id"].n_unique() == len(questions)
    second = stages.midtrain(recipe, arm, 2, stages.answer_chat(recipe, rehearsal, recovered), recovered)
    exams = [ArmExam(0, "–", 0, BEFORE, before)]
    for number, phase, model in (
        (1, MID_TRAINED, trained),
        (1, RECOVERED, recovered),
        (2, MID_TRAINED, second),
        (2, RECOVERED, second),
    ):
        exams.append(ArmExam(number, arm.name, 0, phase, stages.examine(recipe, prompts, model)))
    table = stages.write_table(recipe, exams)
    assert stages.midtrain(recipe, arm, 1, replies).cached and stages.write_table(recipe, exams).cached
    text = (table.path / "report.md").read_text(encoding="utf-8")
    assert "Round 1, 50:50" in text and "Round 2, 50:50" in text and "second handbook" in text
    page = (table.path / "index.html").read_text(encoding="utf-8")
    assert all(each.exam.id in page for each in exams)


def test_means_of_the_table_are_over_seeds() -> None:
    rows = [
        {"round": 1, "arm": "70:30", "seed": seed, "phase": MID_TRAINED, "suite": suite, "n": 40, "accuracy": value}
        for suite, values in {"handbook-1": (0.8, 0.9, 1.0), "instructions": (0.0, 0.0, 0.0)}.items()
        for seed, value in enumerate(values)
    ]
    [line] = summarise(rows)
    accuracy = line.suites["handbook-1"]
    assert line.seeds == 3 and (accuracy.mean, accuracy.low) == pytest.approx((0.9, 0.9 - 0.24843), abs=1e-4)
    assert line.suites["instructions"] == wilson(0, 40)


def weights(artifact: Artifact) -> float:
    return float(sum(p.detach().double().abs().sum() for p in load(artifact.path / "model").model.parameters()))
