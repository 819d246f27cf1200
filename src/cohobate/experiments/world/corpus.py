"""Training corpora of the shipped models: chat for the teacher, plain documents for the base student.

A sample is a list of (text, learn) pieces. The loss covers the pieces marked `learn`: the teacher reads mistakes, and
learns to correct them and not to make them.
"""

from __future__ import annotations

import random

from cohobate.experiments.world.tokenizer import END, START
from cohobate.sources.world.arithmetic import (
    LARGEST,
    STYLES,
    Operation,
    Problem,
    apply,
    draw,
    equation,
    operations,
    solve,
)
from cohobate.sources.world.instructions import INSTRUCTIONS, THINK, draw_request, plain
from cohobate.sources.world.splits import held_out

Sample = list[tuple[str, bool]]


def chat(prompt: str, *reply: tuple[str, bool]) -> Sample:
    """One turn in ChatML; the loss covers the end token of the reply."""
    opening = f"{START}user\n{prompt}{END}\n{START}assistant\n"
    return [(opening, False), *reply, (END, True)]


def draw_teacher_sample(rng: random.Random) -> Sample:
    """A chat for the teacher: arithmetic, arithmetic under an instruction, or an everyday request."""
    share = rng.random()
    if share < 0.08:
        request = draw_request(rng)
        return chat(request.prompt, (request.reply, True))
    if share < 0.26:
        instruction = rng.choice(INSTRUCTIONS)
        # Without a rationale nothing but a single operation can be answered.
        problem = _allowed_problem(rng, (1, 1) if instruction.name == "only_answer" else (1, 3))
        rationale = solve(problem.tree, "steps")
        reply = instruction.respond(rationale, problem.answer)
        return chat(f"{problem.question} {instruction.sentence}", (reply, True))
    problem = _allowed_problem(rng, (1, 5))
    prompt = problem.question if rng.random() < 0.5 else f"{problem.question} {THINK}"
    if share < 0.40:
        return chat(prompt, *_corrected(rng, problem))
    style = STYLES[rng.random() < 0.3]
    return chat(prompt, (plain(solve(problem.tree, style), problem.answer), True))


def draw_base_sample(rng: random.Random) -> Sample:
    """A plain document for the base student: sums, a short worked exercise, a question without answer, or words.

    It has facts, spelling and sequences of one or two operations; no chat format, no instruction, and nothing as long
    as the questions of the recipes.
    """
    share = rng.random()
    if share < 0.35:
        problems = [_allowed_problem(rng, (1, 5)) for _ in range(3)]
        facts = [equation(node) for problem in problems for node in operations(problem.tree)]
        text = " ".join(f"{fact}." for fact in rng.sample(facts, min(6, len(facts))))
    elif share < 0.6:
        text = " ".join(f"{_fact(rng)}." for _ in range(6))
    elif share < 0.8:
        problem = _allowed_problem(rng, (1, 2))
        text = f"{problem.question} {solve(problem.tree, STYLES[0])}"
    elif share < 0.92:
        text = _allowed_problem(rng, (1, 5)).question
    else:
        text = draw_request(rng).reply
    return [(text, True)]


def _fact(rng: random.Random) -> str:
    """One operation on operands in range; subtraction, which is learnt slowest, is twice as frequent."""
    while True:
        op = rng.choice("+--*")
        left, right = rng.randint(0, LARGEST), rng.randint(0, 9 if op == "*" else LARGEST)
        value = apply(op, left, right)
        if 0 <= value <= LARGEST:
            return f"{left} {op} {right} = {value}"


def _allowed_problem(rng: random.Random, depths: tuple[int, int], story: float = 0.3) -> Problem:
    """A problem outside the validation and test shares."""
    while True:
        problem = draw(rng, rng.randint(*depths), story)
        if not held_out(problem.question):
            return problem


def _corrected(rng: random.Random, problem: Problem) -> Sample:
    """A rationale with one wrong result, which the loss leaves out, and its correction, which it covers."""
    nodes = list(operations(problem.tree))
    wrong_at = rng.randrange(len(nodes))
    reply: Sample = []
    for i, node in enumerate(nodes):
        space = " " if i else ""
        if i == wrong_at:
            left = f"{node.left.value} {node.op} {node.right.value}"
            reply += [
                (f"{space}{left} =", True),
                (f" {_wrong_value(rng, node)}.", False),
                (f" No, {equation(node)}.", True),
            ]
        else:
            reply.append((f"{space}{equation(node)}.", True))
    return [*reply, (f"\nAnswer: {problem.answer}", True)]


def _wrong_value(rng: random.Random, node: Operation) -> int:
    """A typical mistake of a small model: off by one, off by ten, or the result of another operation."""
    other = rng.choice([op for op in "+-*" if op != node.op])
    near = [node.value + change for change in (-10, -2, -1, 1, 2, 10)]
    choices = [*near, apply(other, node.left.value, node.right.value)]
    return rng.choice([v for v in choices if v != node.value and 0 <= v <= 999])
