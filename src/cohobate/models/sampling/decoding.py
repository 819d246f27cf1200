"""The choice of the next token: greedy, or the inverse CDF of a truncated softmax at given noise; and what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Decoding:
    """The settings of the choice of the next token.

    temperature 0 is greedy. `logprobs` of a `Sampled` are always those of the raw distribution (temperature 1, no
    truncation), whatever is set here.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


def _say_nothing(rows: int) -> None:
    pass


@dataclass(frozen=True)
class SamplingJob:
    """What is to be sampled, wherever that is done: one response to each of `prompts`, which are token ids.

    eos_ids: the ids that end a response. keys: one a prompt; with `seed` they name the noise of its response. done:
    called with the number of rows that ended together.
    """

    prompts: Sequence[Sequence[int]]
    decoding: Decoding
    eos_ids: Sequence[int]
    keys: Sequence[str]
    seed: int = 0
    done: Callable[[int], None] = _say_nothing


@dataclass(frozen=True)
class Sampled:
    """One response. `response_ids` ends with an end-of-sequence id if and only if it was sampled."""

    response_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


def choose(logits: torch.Tensor, decoding: Decoding, noise: torch.Tensor | None) -> torch.Tensor:
    """A token [rows] for each row of `logits` [rows, vocabulary]: the argmax, or the inverse CDF at `noise` [rows]."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    assert noise is not None  # `sampler.sample` checks it
    probabilities = (_truncate(logits, decoding) / decoding.temperature).softmax(-1)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    target = (noise * cumulative[:, -1])[:, None]
    chosen = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _truncate(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """`logits`, with -inf for the tokens that top-k and top-p (nucleus, after temperature) leave out."""
    if 0 < decoding.top_k < logits.shape[-1]:
        kth = logits.topk(decoding.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if decoding.top_p < 1:
        ordered, index = logits.sort(-1, descending=True)
        mass = (ordered / decoding.temperature).softmax(-1)
        beyond = (mass.cumsum(-1) - mass) >= decoding.top_p
        logits = logits.masked_fill(beyond.scatter(-1, index, beyond), -torch.inf)
    return logits
