"""A nightly recipe over a file of questions that grows, with a teacher that counts."""

import json
import re
from pathlib import Path
from typing import Any

from tests.support.prefect_server import small
from tests.support.wire_server import Act, Body, WireServer, completion


class Nights:
    """`server` is the teacher: unless its plan is changed, each of its answers is right."""

    def __init__(self, folder: Path, name: str = "nights") -> None:
        self.server, self.path, self.name = WireServer(right), folder / "questions.jsonl", name
        self.ask(40)

    def ask(self, count: int) -> None:
        """The file has 8 questions of the test split, and `count` to learn from."""
        splits = ["test" if n < 8 else "train" for n in range(count + 8)]
        lines = [
            json.dumps({"question": f"What is {n} + 1?", "gold_answer": str(n + 1), "split": s}) + "\n"
            for n, s in enumerate(splits)
        ]
        self.path.write_text("".join(lines))

    def recipe(self, **teacher: Any) -> dict[str, Any]:
        # A model of its own: what another recipe has paid for would be a hit.
        served = {"kind": "endpoint", "model": self.name, "base_url": self.server.url, "api_key_env": "TEACHER_KEY"}
        questions = {"source": "file", "path": str(self.path)}
        changes = (f"name={self.name}", "opd.steps=0", "sft.select=all")
        return small(*changes, teacher=served | teacher, questions=questions).model_dump(mode="json")


def right(body: Body, time: int = 1) -> Act:
    """What a teacher says that can count."""
    return Act(completion(body, f"It is one more.\nAnswer: {number_asked(body) + 9}"))


def number_asked(body: Body) -> int:
    """The n of the question `What is n + 1?`, counted from the first one to learn from."""
    found = re.search(r"What is (\d+) \+ 1", body["messages"][-1]["content"])
    assert found
    return int(found[1]) - 8
