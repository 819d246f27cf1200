"""The tables of endings of responses and of pairs of answers, written and judged by hand."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "evaluation" / "tables"


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
