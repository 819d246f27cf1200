"""Chat of the embedded world: sums, sums under an instruction, and everyday requests, in splits.

A model that follows instructions can lose this ability when it is trained on documents; this chat restores it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from cohobate.core.answer_parsing import parse
from cohobate.core.answer_text import exactly
from cohobate.sources.base import Question, question_id
from cohobate.sources.world.arithmetic import Problem, draw
from cohobate.sources.world.instructions import INSTRUCTIONS, THINK, Request, draw_request
from cohobate.sources.world.splits import belongs, held_out

KINDS = ("arithmetic", "instruction", "request")
_INSTRUCTIONS = {instruction.name: instruction for instruction in INSTRUCTIONS}
# Of the prompts: the rest are requests.
_SHARES = {"instruction": 0.5, "arithmetic": 0.3}
_HELD_OUT = ("test", "validation")


def generate(seed: int, counts: dict[str, int]) -> Iterator[Question]:
    """The prompts of each split of `counts`.

    A prompt of test or validation is in no other split, which its hash decides. Only requests outside these two repeat:
    some kinds have few prompts, and without repeats the training data would soon lack them. gold_answer: of a request
    the full reply, else the number. meta: the instruction's name.
    """
    seen: set[str] = set()
    for split, count in counts.items():
        rng = random.Random(f"chat-{seed}-{split}")
        drawn = 0
        while drawn < count:
            prompt = _draw_prompt(rng, split)
            may_repeat = prompt.kind == "request" and split not in _HELD_OUT
            if prompt.text in seen and not may_repeat:
                continue
            seen.add(prompt.text)
            drawn += 1
            yield prompt


def obeyed(kind: str, meta: str | None, gold: str, reply: str) -> bool:
    """Whether `reply` has the form and the answer that a prompt of this kind asks for."""
    if kind == "instruction":
        return _INSTRUCTIONS[json.loads(meta or "{}")["instruction"]].obeyed(reply, int(gold))
    if kind == "request":
        return reply == gold
    answer = parse(reply).answer
    return answer is not None and exactly(answer, gold)


def _draw_prompt(rng: random.Random, split: str) -> Question:
    at = rng.random()
    meta: dict[str, Any] = {"world": 1}
    if at < _SHARES["instruction"]:
        instruction = rng.choice(INSTRUCTIONS)
        # Without a rationale only a single operation can be answered.
        problem = _problem(rng, (1, 1) if instruction.name == "only_answer" else (2, 3), split)
        kind, text, gold = "instruction", f"{problem.question} {instruction.sentence}", str(problem.answer)
        meta["instruction"] = instruction.name
    elif at < _SHARES["instruction"] + _SHARES["arithmetic"]:
        problem = _problem(rng, (2, 4), split)
        kind, text, gold = "arithmetic", f"{problem.question} {THINK}", str(problem.answer)
    else:
        request = _request(rng, split)
        kind, text, gold = "request", request.prompt, request.reply
    return Question(question_id(text), text, gold, split=split, kind=kind, meta=json.dumps(meta))


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
    """Whether `text` belongs to the share of a held-out split, or for another split to no held-out share."""
    return belongs(text, split) if split in _HELD_OUT else not held_out(text)
