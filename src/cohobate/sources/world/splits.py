"""Questions of the world in disjoint splits.

A question belongs to a split by the hash of its text, so the splits never overlap, and asking for more training
questions leaves every other split as it was.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from cohobate.sources.base import Question, question_id
from cohobate.sources.world.arithmetic import Problem, draw, solve
from cohobate.sources.world.instructions import plain

# Percent of all question texts; `hard` needs no share, since no other split reaches its depths.
_SHARES = {"test": (0, 15), "validation": (15, 20), "train": (20, 50), "fresh": (50, 100)}


class WorldQuestions(Protocol):
    """The fields of the recipe's [questions] section that the generator reads."""

    @property
    def seed(self) -> int: ...
    @property
    def min_depth(self) -> int: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def hard_depth(self) -> tuple[int, int]: ...
    @property
    def story(self) -> float: ...


def belongs(question: str, split: str) -> bool:
    """Whether the question's hash falls into the share of `split` (always true for `hard`)."""
    low, high = _SHARES.get(split, (0, 100))
    bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") % 100
    return low <= bucket < high


def share_of(question: str, shares: Mapping[str, int]) -> str:
    """The split of `question` by the hash of its text; shares: percent of each split, which add up to 100."""
    bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") % 100
    ends = accumulate(shares.values())
    return next(split for split, end in zip(shares, ends, strict=True) if bucket < end)


def held_out(question: str) -> bool:
    """Whether no shipped model may be trained on this question."""
    return belongs(question, "test") or belongs(question, "validation")


def generate(config: WorldQuestions, counts: dict[str, int]) -> Iterator[Question]:
    """The questions of every split of `counts`. Raises ValueError for more than there are."""
    for split, count in counts.items():
        low, high = config.hard_depth if split == "hard" else (config.min_depth, config.max_depth)
        yield from (
            _question(problem, split) for problem in _distinct(split, count, (low, high), config.story, config.seed)
        )


def _distinct(split: str, count: int, depths: tuple[int, int], story: float, seed: int) -> Iterator[Problem]:
    rng = random.Random(f"world-{seed}-{split}")
    seen: set[str] = set()
    misses = 0
    while len(seen) < count:
        problem = draw(rng, rng.randint(*depths), story)
        in_range = depths[0] <= problem.depth <= depths[1]
        if problem.question in seen or not in_range or not belongs(problem.question, split):
            misses += 1
            if misses > 1000 + 100 * count:
                raise ValueError(
                    f"the world has fewer than {count} different {split} questions of "
                    f"{depths[0]} to {depths[1]} operations (found {len(seen)})"
                )
            continue
        seen.add(problem.question)
        yield problem


def _question(problem: Problem, split: str) -> Question:
    return Question(
        id=question_id(problem.question),
        text=problem.question,
        gold_answer=str(problem.answer),
        gold_response=plain(solve(problem.tree, "steps"), problem.answer),
        split=split,
        kind=problem.kind,
        depth=problem.depth,
        meta=json.dumps({"world": 1}),
    )
