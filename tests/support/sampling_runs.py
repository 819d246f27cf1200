"""Rollouts of a few prompts of unlike length by the shipped teacher."""

from typing import Any

import pytest

from cohobate.models.chat_template import PromptFormat
from cohobate.models.loading import LoadedModel
from cohobate.models.sampling.sampler import Decoding, Sampled, sample, uniforms

PROMPT_FORMAT = PromptFormat("{question} Think step by step.")


QUESTIONS = [
    "What is 3 + 4?",
    "What is (12 - 5) * 3?",
    "Why?",
    "Anna has 12 apples. She buys 5 more and gives 3 to Tom. How many apples does Anna have now?",
    "What is 8 * 7 - 6?",
    "Compute ((2 + 3) * 4) - 9.",
    "9 - 4",
]


KEYS = [f"question {i}" for i in range(len(QUESTIONS))]


GREEDY = Decoding(48, temperature=0)


DECODINGS = pytest.mark.parametrize(
    "decoding",
    [GREEDY, Decoding(48), Decoding(48, temperature=3), Decoding(48, temperature=2, top_p=0.9, top_k=9)],
    ids=["greedy", "plain", "hot", "truncated"],
)


def drawn(
    teacher: LoadedModel, prompts: list[list[int]], decoding: Decoding, keys: list[str] = KEYS, **how: Any
) -> list[Sampled]:
    noise = uniforms(0, keys, decoding.max_tokens) if decoding.temperature else None
    settings = {"eos_ids": teacher.eos_ids, "pad_id": teacher.pad_id, **how}
    return sample(teacher.model, prompts, decoding, noise, **settings)
