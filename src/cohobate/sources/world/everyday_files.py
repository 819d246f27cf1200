"""The question files of everyday tasks and of instructions, as they ship below data/world/everyday.

python -m cohobate.sources.world.everyday_files data/world/everyday
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from cohobate.sources.base import Question
from cohobate.sources.world import everyday, following


def files() -> dict[str, str]:
    """Text of each file by its name.

    questions.jsonl: everyday questions. chat.jsonl: instructions, which a model is to keep while it learns documents.
    """
    return {"questions.jsonl": _lines(everyday.generate()), "chat.jsonl": _lines(following.generate())}


def _lines(questions: Iterable[Question]) -> str:
    """One line each, in the order of their ids, so that any first ones are of all kinds."""
    ordered = sorted(questions, key=lambda question: str(question.id))
    rows = ({"question": q.text, "gold_answer": q.gold_answer, "split": q.split, "task": q.kind} for q in ordered)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    for name, text in files().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
