"""Files with questions as a user's own tools would write them, and how they are read."""

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cohobate.config import Recipe
from cohobate.core.errors import QuestionsError
from cohobate.sources.read import read as read_questions

Rows = list[dict[str, Any]]


ROWS: Rows = [
    {"question": "What is 2 + 3?", "gold_answer": "5", "topic": "sums"},
    {"question": 'A "quoted", comma-ridden question?', "gold_answer": "1,000", "topic": "text"},
    {"question": "Two\nlines, and a café: 日本?", "gold_answer": "x = −1", "topic": "text"},
    {"question": "Who knows?", "gold_answer": None, "topic": "open"},
]


FORMATS = [".parquet", ".jsonl", ".csv"]


def save(rows: Rows, path: Path) -> Path:
    """The rows as a user's own tools would write them."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def recipe(path: Path, **settings: Any) -> Recipe:
    return Recipe.model_validate({"questions": {"source": "file", "path": str(path), **settings}})


def read(path: Path, **settings: Any) -> pl.DataFrame:
    return read_questions(recipe(path, **settings).questions).questions


def refusal(path: Path, **settings: Any) -> str:
    """The one sentence, which names the file."""
    with pytest.raises(QuestionsError) as caught:
        read(path, **settings)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def unit(suffix: str) -> str:
    return "line" if suffix == ".jsonl" else "row"


def many(count: int) -> Rows:
    return [{"question": f"What is {i} + 1?", "gold_answer": str(i + 1)} for i in range(count)]
