"""Chat of the embedded world: sums, sums under an instruction, and everyday requests, in disjoint splits.

It is what a model that follows instructions can lose when it reads documents, and what brings it back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from cohobate.answers import parse
from cohobate.verdicts import exactly
from cohobate.world.arithmetic import Problem, draw
from cohobate.world.corpus import THINK
from cohobate.world.instructions import INSTRUCTIONS, draw_request
from cohobate.world.splits import belongs, held_out

KINDS = ("arithmetic", "instruction", "request")
_INSTRUCTIONS = {instruction.name: instruction for instruction in INSTRUCTIONS}
# Of the prompts: the rest are requests.
_SHARES = {"instruction": 0.5, "arithmetic": 0.3}


def generate(seed: int, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Rows {question, gold_answer, gold_response, split, kind, depth, meta}; the splits of `counts` share no prompt.

    gold_answer: of a request the whole reply, else the number. meta: the instruction's name.
    """
    seen: set[str] = set()
    # The exam comes first, so that more prompts to train on leave it as it is.
    for split in sorted(counts, key=lambda name: name != "test"):
        rng = random.Random(f"chat-{seed}-{split}")
        made = 0
        while made < counts[split]:
            row = _row(rng, split)
            if row["question"] in seen:
                continue
            seen.add(row["question"])
            made += 1
            yield row


def obeyed(kind: str, meta: str | None, gold: str, reply: str) -> bool:
    """Whether `reply` is what the prompt of this kind asked for, form and answer."""
    if kind == "instruction":
        return _INSTRUCTIONS[json.loads(meta or "{}")["instruction"]].obeyed(reply, int(gold))
    if kind == "request":
        return reply == gold
    answer = parse(reply).answer
    return answer is not None and exactly(answer, gold)


def _row(rng: random.Random, split: str) -> dict[str, Any]:
    at = rng.random()
    meta: dict[str, Any] = {"world": 1}
    if at < _SHARES["instruction"]:
        instruction = rng.choice(INSTRUCTIONS)
        # Without a rationale nothing but a single operation can be answered.
        problem = _problem(rng, (1, 1) if instruction.name == "only_answer" else (2, 3), split)
        kind, question, gold = "instruction", f"{problem.question} {instruction.sentence}", str(problem.answer)
        meta["instruction"] = instruction.name
    elif at < _SHARES["instruction"] + _SHARES["arithmetic"]:
        problem = _problem(rng, (2, 4), split)
        kind, question, gold = "arithmetic", f"{problem.question} {THINK}", str(problem.answer)
    else:
        request = draw_request(rng)
        kind, question, gold = "request", request.prompt, request.reply
    return {
        "question": question,
        "gold_answer": gold,
        "gold_response": None,
        "split": split,
        "kind": kind,
        "depth": None,
        "meta": json.dumps(meta),
    }


def _problem(rng: random.Random, depths: tuple[int, int], split: str) -> Problem:
    """A problem of the test share for the exam, and of neither test nor validation for the others."""
    while True:
        problem = draw(rng, rng.randint(*depths), 0.3)
        if belongs(problem.question, "test") if split == "test" else not held_out(problem.question):
            return problem
