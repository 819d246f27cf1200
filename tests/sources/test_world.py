"""Questions of the embedded world: every gold answer computed again, disjoint splits, and the handbooks."""

import ast
import json
import operator
import random
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Questions
from cohobate.sources.base import Question
from cohobate.sources.world import arithmetic, handbook
from cohobate.sources.world.instructions import INSTRUCTIONS, draw_request, in_words, plain, says_in_words
from cohobate.sources.world.splits import generate

WORLD = Path(__file__).parents[2] / "data" / "world"
COUNTS = {"train": 600, "fresh": 600, "validation": 200, "test": 600, "hard": 300}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def evaluate(expression: str) -> tuple[int, int, list[int]]:
    """(value, number of operations, all intermediate results), by Python's own parser."""
    results: list[int] = []

    def visit(node: ast.AST) -> int:
        match node:
            case ast.Expression(body):
                return visit(body)
            case ast.Constant(int(value)):
                return value
            case ast.BinOp(left, op, right):
                results.append(int(OPERATORS[type(op)](visit(left), visit(right))))
                return results[-1]
        raise ValueError(expression)

    value = visit(ast.parse(expression, mode="eval"))
    return value, len(results), results


def tell(story: str) -> tuple[int, int, list[int]]:
    """(value, number of operations, all intermediate results) of a story, sentence by sentence."""
    sentences, _, question = story.rpartition(". ")
    name = re.fullmatch(r"How many \w+ does (\w+) have\?", question)
    assert name
    have, results = 0, []
    for sentence in sentences.split(". "):
        words = sentence.removeprefix(f"{name[1]} ")
        a, *b = [int(number) for number in re.findall(r"\d+", words)] or [0]
        if re.fullmatch(r"has \d+ \w+", words):
            have = a
            continue
        if re.fullmatch(r"(has|gets) \d+ boxes of \d+ \w+", words):
            results.append(a * b[0])
            if words.startswith("gets"):
                results.append(have + a * b[0])
        elif re.fullmatch(r"finds \d+ \w+|buys \d+ more", words):
            results.append(have + a)
        elif re.fullmatch(r"gives away \d+|loses \d+ \w+", words):
            results.append(have - a)
        else:
            results.append(have * {"doubles": 2, "triples": 3}[words.removeprefix("Then the number ")])
        have = results[-1]
    return have, len(results), results


def work_out(row: Question) -> tuple[int, int, list[int]]:
    if row.kind == "story":
        return tell(row.text)
    return evaluate(row.text.removeprefix("What is ").removesuffix("?"))


def problems(count: int, seed: str, depths: tuple[int, int] = (1, 5)) -> list[arithmetic.Problem]:
    rng = random.Random(seed)
    return [arithmetic.draw(rng, rng.randint(*depths), 0.3) for _ in range(count)]


@pytest.fixture(scope="module")
def rows() -> list[Question]:
    return list(generate(Questions(), COUNTS))


def test_every_gold_answer_is_right(rows: list[Question]) -> None:
    assert len(rows) == sum(COUNTS.values())
    for row in rows:
        assert str(work_out(row)[0]) == row.gold_answer, row.text


def test_every_intermediate_result_stays_small(rows: list[Question]) -> None:
    assert all(0 <= value <= 99 for row in rows for value in work_out(row)[2])


def test_the_depth_is_the_number_of_operations(rows: list[Question]) -> None:
    assert all(work_out(row)[1] == row.depth for row in rows)


@pytest.mark.parametrize("kind", ["expression", "story"])
def test_no_question_leaves_its_range_of_depths(kind: str, rows: list[Question]) -> None:
    chosen = [row for row in rows if row.kind == kind]
    depths = {split: {row.depth for row in chosen if row.split == split} for split in COUNTS}
    for split in ("train", "fresh", "validation", "test"):
        assert depths[split] == {2, 3, 4}
    assert depths["hard"] == {5, 6}  # beyond anything in training


def test_the_share_of_stories_is_as_asked(rows: list[Question]) -> None:
    count = sum(row.kind == "story" for row in rows)
    # Repeated and foreign draws are thrown away, so the share is near 0.3, not exactly it.
    assert 0.2 < count / len(rows) < 0.4
    assert {row.kind for row in generate(Questions(story=0), {"train": 50})} == {"expression"}
    assert {row.kind for row in generate(Questions(story=1), {"train": 50})} == {"story"}


def test_splits_share_no_question_and_repeat_none(rows: list[Question]) -> None:
    texts = {split: [row.text for row in rows if row.split == split] for split in COUNTS}
    for split, count in COUNTS.items():
        assert len(set(texts[split])) == count
    for a, b in combinations(COUNTS, 2):
        assert not set(texts[a]) & set(texts[b])


def test_splits_of_another_seed_or_range_do_not_meet_either(rows: list[Question]) -> None:
    test = {row.text for row in rows if row.split == "test"}
    other = generate(Questions(seed=7, min_depth=1, max_depth=3, hard=0), {"train": 2000, "fresh": 2000})
    assert not test & {row.text for row in other}


def test_more_questions_of_one_split_leave_all_others_as_they_were(rows: list[Question]) -> None:
    more = list(generate(Questions(), {**COUNTS, "train": 2 * COUNTS["train"]}))
    assert [r for r in more if r.split != "train"] == [r for r in rows if r.split != "train"]
    assert [r for r in more if r.split == "train"][: COUNTS["train"]] == rows[: COUNTS["train"]]


@pytest.mark.serves
def test_a_seed_gives_the_same_questions_in_every_process(rows: list[Question]) -> None:
    program = (
        "import json; from cohobate.config import Questions; from cohobate.sources.world.splits import generate; "
        f"from dataclasses import asdict; print(json.dumps([asdict(q) for q in generate(Questions(), {COUNTS!r})]))"
    )
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", program]
        printed = subprocess.check_output(command, env={"PYTHONHASHSEED": hash_seed})
        assert [Question(**row) for row in json.loads(printed)] == rows
    assert list(generate(Questions(seed=1), COUNTS)) != rows


def test_a_world_that_is_too_small_says_so() -> None:
    with pytest.raises(ValueError, match="fewer than 100 different train questions"):
        list(generate(Questions(min_depth=1, max_depth=1, story=0), {"train": 100}))


def test_solutions_in_steps_use_known_values_and_end_with_the_answer() -> None:
    drawn = problems(400, "steps")
    assert {problem.depth for problem in drawn} >= {1, 2, 3, 4, 5}
    for problem in drawn:
        known = [int(number) for number in re.findall(r"\d+", problem.question)]
        known += [2] * problem.question.count("doubles") + [3] * problem.question.count("triples")
        steps = arithmetic.solve(problem.tree, "steps").rstrip(".").split(". ")
        assert len(steps) == problem.depth
        for step in steps:
            left, _, right = step.partition(" = ")
            for number in re.findall(r"\d+", left):
                known.remove(int(number))  # each value is used once
            assert evaluate(left)[0] == int(right)
            known.append(int(right))
        assert int(right) == problem.answer


def test_solutions_by_rewriting_keep_the_value_and_lose_one_operation_at_a_time() -> None:
    drawn = problems(400, "rewrite")
    assert {problem.depth for problem in drawn} >= {1, 2, 3, 4, 5}
    for problem in drawn:
        lines = arithmetic.solve(problem.tree, "rewrite").rstrip(".").split(" = ")
        found = [evaluate(line) for line in lines]
        assert {value for value, _, _ in found} == {problem.answer}
        assert [operations for _, operations, _ in found] == list(range(problem.depth, -1, -1))


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=[i.name for i in INSTRUCTIONS])
def test_the_reference_response_obeys_and_others_do_not(instruction: Any) -> None:
    for problem in problems(50, instruction.name, (2, 4)):
        rationale = arithmetic.solve(problem.tree, "steps")
        reference = instruction.respond(rationale, problem.answer)
        assert instruction.obeyed(reference, problem.answer)
        assert not instruction.obeyed(reference, problem.answer + 1)
        assert not instruction.obeyed(plain(rationale, problem.answer), problem.answer)
        assert not instruction.obeyed("", problem.answer)
    forms = {
        "only_answer": r"Answer: \d+",
        "words": r"(\d.*\.\n)Answer: [a-z ]+",
        "brackets": r"(\d.*\.\n)Answer: \[\d+\]",
        "sure": r"Sure\. (\d.*\.\n)Answer: \d+",
        "done": r"(\d.*\.\n)Answer: \d+\nDone\.",
        "numbered": r"1\) \d+ . \d+ = \d+\. 2\) .*\.\nAnswer: \d+",
        "twice": r"(\d.*\.\n)Answer: (\d+)\nAnswer: \2",
    }
    assert re.fullmatch(forms[instruction.name], reference)


def test_numbers_in_words_are_english_and_all_different() -> None:
    known = {
        0: "zero",
        13: "thirteen",
        20: "twenty",
        42: "forty two",
        99: "ninety nine",
        100: "one hundred",
        142: "one hundred forty two",
        900: "nine hundred",
    }
    assert {number: in_words(number) for number in known} == known
    assert len({in_words(number) for number in range(1000)}) == 1000


def test_every_request_has_the_reply_that_it_asks_for() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        request = draw_request(rng)
        seen.add(request.name)
        words = re.findall(r"\w+", request.prompt)
        match request.name:
            case "greet":
                expected = f"{request.prompt} How can I help?"
            case "repeat":
                times = {"two": 2, "three": 3, "four": 4, "five": 5}[words[4]]
                expected = " ".join([words[3]] * times)
            case "count":
                first, last = (int(number) for number in re.findall(r"\d+", request.prompt))
                expected = " ".join(map(str, range(first, last + 1)))
            case "reverse":
                expected = " ".join(words[:-5:-1])
            case "pick":
                expected = words[-4:][["first", "second", "third", "fourth"].index(words[3])]
            case _:
                assert request.name == "shout" and "capital letters" in request.prompt
                expected = words[1].upper()
        assert request.reply == expected
    assert len(seen) == 6


@pytest.mark.parametrize(("folder", "seed"), [("handbook", 0), ("handbook-2", 1)])
def test_every_handbook_states_every_fact_once_in_every_part(folder: str, seed: int) -> None:
    firm = handbook.company(seed)
    parts = [path.read_text(encoding="utf-8") for path in sorted((WORLD / folder).glob("*.md"))]
    assert len(parts) == 3 and len(firm.facts) == 50
    for fact in firm.facts:
        assert all(fact.answer in sentence for sentence in fact.sentences)
        assert all(sum(part.count(s) for s in fact.sentences) == 1 for part in parts)
        assert not any(fact.answer in question for question in fact.questions)
    stated = [sentence for part in parts for sentence in re.findall(r"[^\n.]+\.", part.split("\n\n", 1)[1])]
    assert len(stated) == 3 * len(firm.facts)


def test_every_question_about_a_company_has_one_answer() -> None:
    first, second = handbook.company(0), handbook.company(1)
    questions = [q for firm in (first, second) for fact in firm.facts for q in fact.questions]
    assert len(set(questions)) == len(questions)
    assert len({fact.fact_id for fact in first.facts}) == len(first.facts)
    assert first == handbook.company(0) and first.name != second.name
    assert [a.answer for a in first.facts] != [b.answer for b in second.facts]


def test_the_shipped_handbooks_are_those_of_the_code() -> None:
    for folder, seed in (("handbook", 0), ("handbook-2", 1)):
        documents = dict(handbook.documents(handbook.company(seed)))
        shipped = {name: (WORLD / folder / name).read_text(encoding="utf-8") for name in documents}
        assert shipped == documents and documents


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("one hundred forty two", "142", True),
        ("zero.", "0", True),
        ("142", "142", False),
        ("one hundred forty three", "142", False),
        ("One hundred forty two", "142", False),
        ("minus two", "-2", False),
        ("one thousand", "1000", False),
    ],
)
def test_only_a_number_in_words_is_one_that_is_said_in_words(answer: str, gold: str, right: bool) -> None:
    assert says_in_words(answer, gold, "?", answer) is right
