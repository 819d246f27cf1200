"""[questions] of a file: its columns, the verifier that fits its answers, and splits by the number of its rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohobate.config import Questions, Verification
from cohobate.config.load import make_section
from cohobate.core.errors import QuestionsError
from cohobate.sources.guess import Guess, guess
from cohobate.sources.read import read
from cohobate.sources.readers import DOCUMENTS, suffix
from cohobate.stages.proposal.wishes import Wishes

if TYPE_CHECKING:
    import polars as pl

FEWEST = 10
_SEEDS = 64  # of the split that are tried
# Of the gold answers, the share that a verifier must be able to read.
_READABLE = 0.95
_MATHS = re.compile(r"[\\^=]|\d|pi\b|sqrt", re.IGNORECASE)
_SHORT_WORDS = 8


@dataclass(frozen=True)
class QuestionsPlan:
    """section: of [questions]. counts: questions of each split. verifier: its name. missing: questions without gold.

    repeated: rows that repeat an earlier question. guess: of the columns.
    """

    section: dict[str, Any]
    counts: dict[str, int]
    verifier: str
    missing: int
    repeated: int
    guess: Guess

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    @property
    def is_open(self) -> bool:
        """Whether most questions have no gold answer, so that the whole text of a response is the answer."""
        return 2 * self.missing > self.rows


def guessed(wishes: Wishes) -> Guess:
    """The columns of the questions of `wishes`. Raises QuestionsError, or RecipeError for a wrong setting of them."""
    path = wishes.questions
    if suffix(Path(path)) in DOCUMENTS:
        raise QuestionsError(
            f"{path} is a document, and init writes recipes for files of questions; the README says how documents "
            "become questions"
        )
    given = wishes.of_questions()
    source = make_section(Questions, {**given, "source": "file", "path": path}, "[questions]")
    roles = {"question": wishes.question_column, "gold_answer": wishes.gold_column}
    columns = {**given.get("columns", {}), **{role: name for role, name in roles.items() if name}}
    return guess(path, source.hf, columns)


def plan(wishes: Wishes, columns: Guess, *, on_policy: bool) -> QuestionsPlan:
    """The questions of `wishes`, all of them read; settings of [questions] among the overrides stay as they are.

    columns: those that `guessed` found. on_policy: whether fresh questions are needed. Raises QuestionsError for a file
    that cannot be read or used.
    """
    given = wishes.of_questions()
    defaults = {"question": "question", "gold_answer": "gold_answer"}
    named = {role: name for role, name in columns.columns.items() if defaults.get(role) != name}
    section: dict[str, Any] = {"source": "file", "path": wishes.questions}
    section |= {"columns": named} if named else {}
    section |= {"gold_after": columns.gold_after} if columns.gold_after else {}
    section |= {key: value for key, value in given.items() if key != "columns"}  # which `named` holds
    table = _read({"repeated": "first", **section})
    frame = table.questions
    if len(frame) < FEWEST:
        raise QuestionsError(
            f"{wishes.questions} has {len(frame)} questions, too few to learn from some and test on others; give "
            f"{FEWEST} or more"
        )
    if table.repeated:
        section.setdefault("repeated", "first")
    if "split" not in columns.names and "split" not in section:
        section["split"] = shares(len(frame), on_policy=on_policy)
        frame, section["seed"] = _drawn(section)
    counts = dict(Counter(frame["split"].to_list()))
    verifier, missing = wishes.verifier or _verifier(frame), _without_gold(frame)
    return QuestionsPlan(section, counts, verifier, missing, table.repeated, columns)


def shares(rows: int, *, on_policy: bool) -> dict[str, float]:
    """questions.split for so many rows: of few a fifth is for tests, of many at most 1,000 questions."""
    test = 0.2 if rows < 200 else min(0.15, 1000 / rows)
    validation = 0.1 if rows < 200 else min(0.05, 200 / rows)
    test, validation = (max(round(share, 3), 0.001) for share in (test, validation))
    rest = 1 - test - validation
    train = round(rest / 2 if on_policy else rest, 3)
    fresh = round(rest - train, 3) if on_policy else 0.0
    return {"train": train, "fresh": fresh, "validation": validation, "test": round(1 - train - fresh - validation, 3)}


def _drawn(section: dict[str, Any]) -> tuple[pl.DataFrame, int]:
    """The questions in splits of which each has at least half of its share, and the seed of the draw."""
    for seed in range(_SEEDS):
        frame = _read({"repeated": "first", **section, "seed": seed}).questions
        counts = Counter(frame["split"].to_list())
        if all(counts[split] * 2 >= share * len(frame) for split, share in section["split"].items()):
            return frame, seed
    raise QuestionsError(f"{section['path']} has too few questions to be split; give more")


def _read(section: dict[str, Any]) -> Any:
    return read(make_section(Questions, section, "[questions]"))


def _without_gold(frame: pl.DataFrame) -> int:
    from cohobate.evaluation.verifiers.labels import without_gold

    return without_gold(frame)


def _verifier(frame: pl.DataFrame) -> str:
    """The verifier that fits the gold answers: none can be compared where most are missing or long."""
    from cohobate.evaluation.verifiers.labels import has_gold, unreadable_gold

    golds = frame.filter(has_gold())["gold_answer"].head(200).to_list()
    if 2 * _without_gold(frame) > len(frame):
        return "judge"
    if all(gold.lstrip().startswith("{") for gold in golds):
        return "checks"
    if all(len(gold.strip()) == 1 and gold.strip().isalpha() for gold in golds):
        return "exact"  # labels of choices
    for name in ("numeric", "math"):
        unreadable = unreadable_gold(frame, Verification(name=name))
        likely = name == "numeric" or sum(bool(_MATHS.search(gold)) for gold in golds) >= _READABLE * len(golds)
        if likely and len(unreadable) <= (1 - _READABLE) * len(golds):
            return name
    words = sorted(len(gold.split()) for gold in golds)
    return "phrase" if words[len(words) // 2] <= _SHORT_WORDS else "judge"
