"""Rollouts: sample responses from a causal language model in this process, with exact log-probabilities.

The noise of a response comes from a stream of its own, named by a key: the same (seed, key) draws the same tokens
whatever else is in the batch, up to the last bits of the logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

FinishReason = Literal["stop", "length"]
# Fewer than this share of rows still running: drop the finished ones from the batch and its cache.
_COMPACT_BELOW = 0.8


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    temperature 0 is greedy. `logprobs` of a `Sampled` are always those of the raw distribution (temperature 1, no
    truncation), whatever is set here.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Sampled:
    """One response. `response_ids` ends with an end-of-sequence id if and only if it was sampled."""

    response_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


def uniforms(seed: int, keys: Sequence[str], length: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) of shape [len(keys), length]; row i depends only on (seed, keys[i])."""
    return np.stack([_stream(seed, key).random(length) for key in keys])


def _stream(seed: int, key: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


@torch.inference_mode()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    noise: NDArray[np.float64] | None,
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    batch_size: int = 256,
    done: Callable[[int], None] = lambda rows: None,
) -> list[Sampled]:
    """One response a prompt, in the order of `prompts`.

    `noise` is [len(prompts), >= max_tokens] from `uniforms`; it may be None when decoding is greedy. Prompts of like
    length share a batch of at most `batch_size` rows. `done` is called with the row count of each finished batch.
    """
    if decoding.temperature > 0 and noise is None:
        raise ValueError("sampling at a temperature needs noise: pass rollouts.uniforms(...)")
    was_training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    results: dict[int, Sampled] = {}
    try:
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            batch_noise = None if noise is None else noise[rows]
            batch = _Batch(model, [prompts[i] for i in rows], decoding, batch_noise, eos_ids, pad_id)
            results.update(zip(rows, batch.run(), strict=True))
            done(len(rows))
    finally:
        model.train(was_training)
    return [results[i] for i in range(len(prompts))]


class _Batch:
    """A left-padded batch that decodes until every row has ended; ended rows leave the cache."""

    def __init__(
        self,
        model: Any,
        prompts: list[Sequence[int]],
        decoding: Decoding,
        noise: NDArray[np.float64] | None,
        eos_ids: Sequence[int],
        pad_id: int,
    ) -> None:
        self.model, self.decoding = model, decoding
        device = model.device
        width = max(map(len, prompts))
        padded = [[pad_id] * (width - len(p)) + list(p) for p in prompts]
        self.inputs = torch.tensor(padded, device=device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        self.mask = (torch.arange(width, device=device) >= (width - lengths)[:, None]).long()
        self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.eos = torch.tensor(list(eos_ids), device=device)
        self.noise = None if noise is None else torch.from_numpy(noise).to(device)
        self.ids = torch.full((len(prompts), decoding.max_tokens), pad_id, device=device)
        self.logprobs = torch.zeros(len(prompts), decoding.max_tokens, device=device)
        self.lengths = torch.full((len(prompts),), decoding.max_tokens, device=device)
        self.stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self.rows = torch.arange(len(prompts), device=device)  # original row of each live row
        self.cache = DynamicCache(config=model.config)

    def run(self) -> list[Sampled]:
        for step in range(self.decoding.max_tokens):
            tokens = self._advance(step)
            ended = torch.isin(tokens, self.eos) & ~self.stopped[self.rows]
            self.lengths[self.rows[ended]] = step + 1
            self.stopped[self.rows[ended]] = True
            live = ~self.stopped[self.rows]
            running = int(live.sum())
            if running == 0:
                break
            if running < _COMPACT_BELOW * len(self.rows):
                tokens = self._drop_ended(live, tokens)
            self._append(tokens)
        return self._results()

    def _advance(self, step: int) -> torch.Tensor:
        """Run the model on the pending inputs, choose a token for each live row, and note it."""
        output = self.model(
            input_ids=self.inputs,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            logits_to_keep=1,
            use_cache=True,
        )
        logits = output.logits[:, -1].float()
        noise = None if self.noise is None else self.noise[self.rows, step]
        tokens = choose(logits, self.decoding, noise)
        logprobs = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        self.ids[self.rows, step] = tokens
        self.logprobs[self.rows, step] = logprobs
        return tokens

    def _append(self, tokens: torch.Tensor) -> None:
        self.inputs = tokens[:, None]
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=-1)

    def _drop_ended(self, live: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        keep = live.nonzero()[:, 0]
        self.cache.batch_select_indices(keep)
        self.rows, self.mask = self.rows[keep], self.mask[keep]
        self.positions = self.positions[keep]
        return tokens[keep]

    def _results(self) -> list[Sampled]:
        ids, logprobs = self.ids.tolist(), self.logprobs.tolist()
        return [
            Sampled(ids[i][:n], logprobs[i][:n], "stop" if stopped else "length")
            for i, (n, stopped) in enumerate(zip(self.lengths.tolist(), self.stopped.tolist(), strict=True))
        ]


def choose(logits: torch.Tensor, decoding: Decoding, noise: torch.Tensor | None) -> torch.Tensor:
    """A token a row of `logits` [rows, vocabulary]: the argmax, or the inverse CDF at `noise` [rows]."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    assert noise is not None  # `sample` checks it
    probabilities = (_truncate(logits, decoding) / decoding.temperature).softmax(-1)
    cumulative = probabilities.double().cumsum(-1)
    target = (noise * cumulative[:, -1])[:, None].to(cumulative.dtype)
    chosen = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _truncate(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """`logits` with what top-k and top-p (nucleus, after temperature) leave out set to -inf."""
    if 0 < decoding.top_k < logits.shape[-1]:
        kth = logits.topk(decoding.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if decoding.top_p < 1:
        ordered, index = logits.sort(-1, descending=True)
        mass = (ordered / decoding.temperature).softmax(-1).cumsum(-1)
        beyond = (mass - (ordered / decoding.temperature).softmax(-1)) >= decoding.top_p
        logits = logits.masked_fill(beyond.scatter(-1, index, beyond), -torch.inf)
    return logits
