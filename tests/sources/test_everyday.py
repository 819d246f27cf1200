"""Everyday questions and instructions: the shipped files, their splits, and that checks can be passed and failed."""

import json
from collections import Counter

import pytest

from cohobate.config import Questions, Verification
from cohobate.core.shipped import shipped_path
from cohobate.evaluation.verifiers.verdict import Case
from cohobate.evaluation.verifiers.verify import verdicts_of
from cohobate.sources.base import Question
from cohobate.sources.read import read
from cohobate.sources.world import everyday, everyday_files, following

CHECKS = Verification(name="checks")
QUESTIONS, INSTRUCTIONS = list(everyday.generate()), list(following.generate())


def test_the_shipped_files_are_what_the_generators_write() -> None:
    assert len(everyday_files.files()) == 2
    for name, text in everyday_files.files().items():
        path = shipped_path(f"world/everyday/{name}")
        assert path is not None and path.read_text(encoding="utf-8") == text
        table = read(Questions(source="file", path=f"world/everyday/{name}")).questions
        assert table["gold_answer"].null_count() == 0 and table["question_id"].is_unique().all()


def test_there_are_enough_of_each_split_to_measure_with() -> None:
    splits = Counter(question.split for question in INSTRUCTIONS)
    assert splits["test"] >= 300 and min(splits[name] for name in ("train", "fresh")) > 100
    splits = Counter(question.split for question in QUESTIONS)
    assert splits["test"] >= 150 and min(splits[name] for name in ("train", "fresh")) > 100
    assert {q.kind for q in INSTRUCTIONS if q.split == "test"} == {q.kind for q in INSTRUCTIONS}
    assert {q.kind for q in QUESTIONS if q.split == "test"} == {q.kind for q in QUESTIONS}


def verdict(question: Question, response: str) -> str:
    [judged] = verdicts_of(CHECKS, [Case(None, question.gold_answer, False, question.text, response)])
    return judged.label


def test_every_question_is_answered_by_its_gold_answer_and_by_no_refusal() -> None:
    golds = [question.gold_answer or "" for question in QUESTIONS]
    answers = [json.loads(gold)["any"][0] if gold.startswith("{") else gold for gold in golds]
    judged = [verdict(each, f"It has to be {answer}.") for each, answer in zip(QUESTIONS, answers, strict=True)]
    assert judged == ["correct"] * len(QUESTIONS)
    assert "correct" not in [verdict(question, "I am not able to answer this question.") for question in QUESTIONS]


@pytest.mark.parametrize(
    ("kind", "obeying", "disobeying"),
    [
        ("upper", "THIS IS A SENTENCE.", "This is a sentence."),
        ("lower", "this is a sentence.", "This is a sentence."),
        ("forbidden", "Cats sleep a lot", "It is very quiet and the moon is up"),
        ("wanted", "A small and bright thing.", "A small thing."),
        ("ends", "Who has seen it?", "I have seen it."),
    ],
)
def test_instructions_are_obeyed_or_not(kind: str, obeying: str, disobeying: str) -> None:
    prompts = [question for question in INSTRUCTIONS if question.kind == kind]
    assert prompts
    assert {verdict(prompt, obeying) for prompt in prompts} == {"correct"}
    assert {verdict(prompt, disobeying) for prompt in prompts} == {"incorrect"}


def test_lists_json_lengths_and_beginnings_are_those_that_are_asked_for() -> None:
    judged = Counter[str]()
    for prompt in INSTRUCTIONS:
        wanted = json.loads(prompt.gold_answer or "")
        if prompt.kind == "list":
            judged[verdict(prompt, "\n".join(f"{n}. thing" for n in range(1, wanted["items"] + 1)))] += 1
            assert verdict(prompt, "1. thing") == "incorrect"
        elif prompt.kind == "json":
            assert all(f'"{key}"' in prompt.text for key in wanted["keys"])
            judged[verdict(prompt, json.dumps(dict.fromkeys(wanted["keys"], "x")))] += 1
        elif prompt.kind == "words":
            judged[verdict(prompt, " ".join(["word"] * wanted["words"][1]))] += 1
            assert verdict(prompt, " ".join(["word"] * (wanted["words"][1] + 1))) == "incorrect"
        elif prompt.kind == "begins":
            judged[verdict(prompt, f"{wanted['starts']} it rains.")] += 1
    assert set(judged) == {"correct"} and judged.total() > 300
