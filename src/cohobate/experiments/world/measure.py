"""Scores of a shipped model: arithmetic on held-out questions, and how often it follows instructions."""

from __future__ import annotations

import random
from typing import Any

from cohobate.experiments.world.corpus import chat
from cohobate.models.sampling.sampler import Decoding, sample, uniforms
from cohobate.sources.world import splits
from cohobate.sources.world.arithmetic import draw
from cohobate.sources.world.instructions import INSTRUCTIONS, THINK, draw_request

GREEDY, SAMPLED = Decoding(max_tokens=128, temperature=0), Decoding(max_tokens=128)


class _Questions:
    seed, min_depth, max_depth, hard_depth, story = 0, 2, 4, (5, 6), 0.3


def respond(model: Any, tokenizer: Any, prompts: list[str], decoding: Decoding) -> list[str]:
    """The model's reply to each prompt, as text without special tokens."""
    openings = [chat(prompt)[0][0] for prompt in prompts]
    ids = tokenizer(openings, add_special_tokens=False)["input_ids"]
    noise = uniforms(0, prompts, decoding.max_tokens) if decoding.temperature else None
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = sample(model, ids, decoding, noise, eos_ids=[end], pad_id=pad, batch_size=1000)
    return [tokenizer.decode(row.response_ids, skip_special_tokens=True) for row in rows]


def measure(model: Any, tokenizer: Any, count: int = 1000) -> dict[str, Any]:
    """Shares in 0..1: arithmetic (test and hard, greedy and sampled) and instructions obeyed (greedy)."""
    questions = list(splits.generate(_Questions(), {"test": count, "hard": count // 5}))
    scores: dict[str, Any] = {"questions": {"test": count, "hard": count // 5}}
    for name, decoding in (("greedy", GREEDY), ("sampled", SAMPLED)):
        prompts = [f"{question.text} {THINK}" for question in questions]
        replies = respond(model, tokenizer, prompts, decoding)
        pairs = zip(replies, questions, strict=True)
        right = [reply.endswith(f"\nAnswer: {question.gold_answer}") for reply, question in pairs]
        scores[name] = {"test": _mean(right[:count]), "hard": _mean(right[count:])}
    return {**scores, "instructions": _instructions(model, tokenizer)}


def _instructions(model: Any, tokenizer: Any, each: int = 50) -> dict[str, float]:
    rng = random.Random("measure")
    scores = {}
    for instruction in INSTRUCTIONS:
        depths = (1, 1) if instruction.name == "only_answer" else (2, 3)
        problems = [draw(rng, rng.randint(*depths), 0.3) for _ in range(each)]
        prompts = [f"{problem.question} {instruction.sentence}" for problem in problems]
        replies = respond(model, tokenizer, prompts, GREEDY)
        scores[instruction.name] = _mean(
            [instruction.obeyed(reply, problem.answer) for reply, problem in zip(replies, problems, strict=True)]
        )
    requests = [draw_request(rng) for _ in range(each)]
    replies = respond(model, tokenizer, [request.prompt for request in requests], GREEDY)
    scores["requests"] = _mean([reply == r.reply for reply, r in zip(replies, requests, strict=True)])
    return scores


def _mean(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4)
