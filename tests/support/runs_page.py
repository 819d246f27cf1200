"""The page of all runs as tests read it, and rows of runs that nobody made."""

import base64
import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

from cohobate.report.run_rows import RunRow

# What somebody does on the page, as scripts.
RUNS_ACTS = {
    "sort": "$('sort').value = 'accuracy-'; $('sort').dispatchEvent(new Event('input'))",
    "head": "document.querySelector('[data-sort=recipe] button').click()",
    "filter": "menus[0].value = 'recipe 3'; menus[0].dispatchEvent(new Event('input'))",
    "search": "$('search').value = '77'; $('search').dispatchEvent(new Event('input'))",
    "reset": "$('reset').click()",
    "scroll": "$('view').scrollTop = 150000",
    "key": "$('view').dispatchEvent(new KeyboardEvent('keydown', {key: 'PageDown'}))",
}


def unpacked_page(path: Path) -> dict[str, Any]:
    """The columns of the page, by another road than its own."""
    [packed] = re.findall(r'id="rows">(.*?)</script>', path.read_text(encoding="utf-8"))
    return _unpacked(packed)


def unpacked_details(path: Path) -> dict[str, Any]:
    """What the script of an artifact holds."""
    [packed] = re.findall(r'"(.*)"', path.read_text(encoding="ascii"))
    return _unpacked(packed)


def made_rows(count: int) -> list[RunRow]:
    """Runs of twenty recipes, a fifth of which have not come to an accuracy."""
    rng = random.Random(0)
    return [
        RunRow(
            id=f"recipe {at % 20}-20260101-{at:06d}",
            recipe=f"recipe {at % 20}",
            flow="distill",
            status=rng.choice(["done", "done", "failed", "interrupted"]),
            started=1.7e9 + 100 * at,
            seconds=rng.random() * 1e4,
            accuracy=None if at % 5 == 0 else rng.random(),
            teacher=0.9,
            flops=rng.random() * 1e18,
            cost_usd=rng.random() * 9,
            artifacts=[
                f"{stage}/recipe-{rng.getrandbits(32):08x}" for stage in ("triples", "sft", "opd", "evaluation")
            ],
        )
        for at in range(count)
    ]


def _unpacked(packed: str) -> dict[str, Any]:
    values = json.loads(gzip.decompress(base64.b64decode(packed, validate=True)))
    assert isinstance(values, dict)
    return values
