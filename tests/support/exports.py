"""Exports of triples as tests read them."""

import json
from pathlib import Path
from typing import Any

from cohobate.datasets.selection import Selection

ALL = Selection("all")
BRIEF = "Be brief."
"""The system message of the exports."""


def lines(folder: Path) -> list[dict[str, Any]]:
    """The rows of an export."""
    return [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").split("\n") if line]
