"""The tables of endings of responses and of pairs of answers, written and judged by hand, and what comes out for them.

`python -m tests.support.tables` prints the figures that docs/answers.md shows.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from cohobate.config import Verification
from cohobate.core.answer_parsing import parse
from cohobate.evaluation.verifiers.verdict import Case, Label, Verdict
from cohobate.evaluation.verifiers.verify import verdicts_of

FOLDER = Path(__file__).parents[1] / "evaluation" / "tables"
VERIFIERS = ("exact", "numeric", "math")
LABELS: tuple[Label, ...] = ("correct", "incorrect", "undecided")


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def judged(name: str) -> list[tuple[dict[str, Any], Verdict]]:
    """The rows of a table of pairs, each with the verdict of its verifier."""
    pairs: list[tuple[dict[str, Any], Verdict]] = []
    for verifier in VERIFIERS:
        rows = [row for row in read_table(name) if row["verifier"] == verifier]
        cases = [Case(row["answer"], row["gold"]) for row in rows]
        pairs += zip(rows, verdicts_of(Verification(name=verifier), cases), strict=True)
    return pairs


def figures() -> str:
    """The tables in Markdown: endings read as their label says, and verdicts beside the right ones."""
    endings = read_table("endings")
    right = Counter(row["answer"] is None for row in endings if _answer(row) == row["answer"])
    stated = sum(row["answer"] is not None for row in endings)
    lines = [
        "| endings | styles | read as labelled |",
        "| --- | ---: | ---: |",
        f"| with an answer | {_styles(endings, stated=True)} | {right[False]} of {stated} |",
        f"| without one | {_styles(endings, stated=False)} | {right[True]} of {len(endings) - stated} |",
        "",
        "| verifier | right verdict | pairs | called correct | incorrect | undecided |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    counts = Counter((row["verifier"], row["verdict"], verdict.label) for row, verdict in judged("verdicts"))
    for verifier in VERIFIERS:
        for truth in LABELS[:2]:
            given = [counts[verifier, truth, label] for label in LABELS]
            lines.append(f"| {verifier} | {truth} | {sum(given)} | " + " | ".join(map(str, given)) + " |")
    for never in LABELS[:2]:
        given = [
            sum(row["never"] == never and verdict.label == label for row, verdict in judged("doubtful"))
            for label in LABELS
        ]
        lines.append(f"| all | anything but {never} | {sum(given)} | " + " | ".join(map(str, given)) + " |")
    return "\n".join(lines)


def _answer(row: dict[str, Any]) -> str | None:
    return parse(row["text"], row.get("reasoning")).answer


def _styles(endings: list[dict[str, Any]], *, stated: bool) -> int:
    return len({row["family"] for row in endings if (row["answer"] is not None) == stated})


if __name__ == "__main__":
    print(figures())
