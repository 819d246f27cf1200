"""Chat of the embedded world: sums, sums under an instruction, and everyday requests, in splits.

It is what a model that follows instructions can lose when it reads documents, and what brings it back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from cohobate.core.answer_parsing import parse
from cohobate.core.answer_text import exactly
from cohobate.sources.world.arithmetic import Problem, draw
from cohobate.sources.world.instructions import INSTRUCTIONS, THINK, Request, draw_request
from cohobate.sources.world.splits import belongs, held_out

KINDS = ("arithmetic", "instruction", "request")
_INSTRUCTIONS = {instruction.name: instruction for instruction in INSTRUCTIONS}
# Of the prompts: the rest are requests.
_SHARES = {"instruction": 0.5, "arithmetic": 0.3}
_HELD_OUT = ("test", "validation")


def generate(seed: int, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Rows {question, gold_answer, gold_response, split, kind, depth, meta}, by split, as many as `counts` says.

    A prompt of test or validation is in no other split, which its hash decides. Nothing is asked twice but requests
    outside these two: some kinds have few prompts, and without repeats what is learnt would soon lack them.
    gold_answer: of a request the whole reply, else the number. meta: the instruction's name.
    """
    seen: set[str] = set()
    for split, count in counts.items():
        rng = random.Random(f"chat-{seed}-{split}")
        made = 0
        while made < count:
            row = _row(rng, split)
            may_repeat = row["kind"] == "request" and split not in _HELD_OUT
            if row["question"] in seen and not may_repeat:
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
        request = _request(rng, split)
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
    while True:
        problem = draw(rng, rng.randint(*depths), 0.3)
        if _is_of(split, problem.question):
            return problem


def _request(rng: random.Random, split: str) -> Request:
    while True:
        request = draw_request(rng)
        if _is_of(split, request.prompt):
            return request


def _is_of(split: str, text: str) -> bool:
    """Of its own share for a split that is held out, else of neither share."""
    return belongs(text, split) if split in _HELD_OUT else not held_out(text)
