"""The columns that are guessed of published datasets' layouts, held against what the reader then makes of them."""

from pathlib import Path
from typing import Any

import pytest

from cohobate.config import Hub
from cohobate.core.errors import QuestionsError
from cohobate.sources.guess import NO_GOLD, guess
from tests.support.question_files import read, save

LONG = "We first count what there is, then add what comes, and so we see how many there are in the end. "
# A row as the dataset has it, and the question and gold answer that its authors mean.
LAYOUTS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "gsm8k": ({"question": "How many?", "answer": "2 + 3 = 5\n#### 5"}, "How many?", "5"),
    "math": (
        {"problem": "Find x.", "level": "Level 1", "solution": LONG + r"It is \boxed{\frac{1}{2}}."},
        "Find x.",
        r"\frac{1}{2}",
    ),
    "mmlu": (
        {"question": "Which?", "subject": "law", "choices": ["one", "two"], "answer": 1},
        "Which?\nA. one\nB. two",
        "B",
    ),
    "arc": (
        {"id": "Q1", "question": "Which?", "choices": {"text": ["one", "two"], "label": ["1", "2"]}, "answerKey": "2"},
        "Which?\n1. one\n2. two",
        "2",
    ),
    "squad": (
        {"id": "1", "title": "T", "question": "Where?", "answers": {"text": ["here"], "answer_start": [3]}},
        "Where?",
        "here",
    ),
    "lists of answers": ({"question": "Who?", "answer": ["Ada", "Ada L."]}, "Who?", "Ada"),
    "alpaca": ({"instruction": "Tell me.", "output": LONG}, "Tell me.", None),
    "chat": (
        {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": LONG}]},
        "Hello?",
        None,
    ),
    "capitals": ({"ID": 7, "Question": "How many?", "Answer": "5"}, "How many?", "5"),
    "own words": ({"nr": 1, "frage": "Wie viele?", "loesung": "5"}, "Wie viele?", None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_reader_finds_by_the_guess_what_the_authors_mean(name: str, tmp_path: Path) -> None:
    row, question, gold = LAYOUTS[name]
    path = save([row], tmp_path / "rows.jsonl")
    made = guess(str(path), Hub(), {})
    [read_back] = read(path, columns=made.columns, gold_after=made.gold_after).to_dicts()
    assert (read_back["question"], read_back["gold_answer"]) == (question, gold)
    assert made.gold == (gold is not None)


def test_written_responses_are_kept_as_such(tmp_path: Path) -> None:
    path = save([LAYOUTS["alpaca"][0]], tmp_path / "rows.jsonl")
    [row] = read(path, columns=guess(str(path), Hub(), {}).columns).to_dicts()
    assert row["gold_response"] == LONG


def test_given_columns_win(tmp_path: Path) -> None:
    path = save([{"question": "no", "text": "How many?", "answer": "no", "n": 5}], tmp_path / "rows.jsonl")
    made = guess(str(path), Hub(), {"question": "text", "gold_answer": "n"})
    assert made.columns == {"question": "text", "gold_answer": "n"} and made.gold
    assert not guess(str(path), Hub(), {"gold_answer": NO_GOLD}).gold


@pytest.mark.parametrize("row", [{"a1": "x", "b": "y"}, {"first": "How?", "second": "Why?"}, {"n": 5}])
def test_what_nobody_could_guess_is_refused_with_the_columns(row: dict[str, Any], tmp_path: Path) -> None:
    path = save([row], tmp_path / "rows.jsonl")
    with pytest.raises(QuestionsError, match="--question-column") as caught:
        guess(str(path), Hub(), {})
    assert all(name in str(caught.value) for name in row)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(QuestionsError, match="no question"):
        guess(str(tmp_path / "rows.jsonl"), Hub(), {})
