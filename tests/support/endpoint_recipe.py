"""Triples of a small questions file from an endpoint, in this process or as a program to kill."""

import json
import sys
from pathlib import Path
from typing import Any

from cohobate.config import Recipe
from tests.support.triples_stage import make


def recipe_of(folder: Path, url: str | list[str], rows: int, **sections: dict[str, Any]) -> Recipe:
    """`rows` training questions, numbered from 0, in `folder`; `sections` change the recipe."""
    path = folder / f"questions-{rows}.jsonl"
    if not path.exists():
        lines = [{"question": f"Question {n}?", "gold_answer": str(n), "split": "train"} for n in range(rows)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    values: dict[str, Any] = {
        "questions": {"source": "file", "path": str(path)},
        "teacher": {"kind": "endpoint", "model": "m", "base_url": url, "prompt": "{question}"},
        "triples": {"max_tokens": 64, "concurrency": 16},
        "opd": {"steps": 0},
    }
    for name, changes in sections.items():
        values[name] = {**values.get(name, {}), **changes}
    return Recipe.model_validate(values)


def number(body: dict[str, Any]) -> int:
    """The number of the question in a request."""
    return int(body["messages"][-1]["content"].removeprefix("Question ").removesuffix("?"))


if __name__ == "__main__":
    make(Recipe.model_validate_json(sys.argv[1]))
