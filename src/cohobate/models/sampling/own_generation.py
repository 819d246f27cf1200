"""Sampling with transformers' own generation, for models that the cache of slots does not hold.

It is the way of hybrid and recurrent models, of biases of attention, and of whatever is new. Rows whose prompts have
one length are generated together, so that there is no padding: a recurrent layer would read it as text, and a row's
result must not depend on the rows beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from cohobate.core import interrupts
from cohobate.core.errors import CohobateError, ModelError
from cohobate.models.sampling.context_limit import room_behind
from cohobate.models.sampling.decoding import Decoding, Sampled, choose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    noise: NDArray[np.float64] | None,
    eos_ids: Sequence[int],
    pad_id: int,
    batch_size: int,
    done: Callable[[int], None],
    *,
    cached: bool,
) -> list[Sampled]:
    """One response per prompt; see `sampler.sample`.

    cached: with transformers' own cache; without, every token takes a pass over the whole row.

    Raises ModelError where transformers cannot generate either.
    """
    responses: dict[int, Sampled] = {}
    rows = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i]), i))
    room = room_behind(model, prompts, decoding.max_tokens)
    with _plain(model, pad_id, cached) as settings:
        for _, alike in groupby(rows, key=lambda i: len(prompts[i])):
            group = list(alike)
            settings.max_new_tokens = room[group[0]]  # one length, one room
            limited = replace(decoding, max_tokens=room[group[0]])
            for start in range(0, len(group), batch_size):
                chosen = group[start : start + batch_size]
                draw = _Draw(len(chosen), limited, None if noise is None else noise[chosen], eos_ids, model.device)
                inputs = torch.tensor([list(prompts[i]) for i in chosen], device=model.device)
                _generate(model, inputs, settings, draw)
                responses |= zip(chosen, draw.responses(), strict=True)
                done(len(chosen))
    return [responses[i] for i in range(len(prompts))]


def _generate(model: Any, inputs: torch.Tensor, settings: GenerationConfig, draw: _Draw) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kernels that are not installed
            model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=settings,
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList([_AllEnded(draw)]),
            )
    except (CohobateError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, ImportError) as error:
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{type(model).__name__} cannot be sampled in this process ({why}); sample with vLLM, serve the model and "
            "use it as an endpoint, or choose another one"
        ) from error


@contextmanager
def _plain(model: Any, pad_id: int, cached: bool) -> Iterator[GenerationConfig]:
    """Settings of one pass after another and nothing else: transformers adds those that the model's folder has."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield GenerationConfig(do_sample=False, use_cache=cached, pad_token_id=pad_id)
    finally:
        model.generation_config = own


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws a token for each row of a batch, and leaves it as the only one that generation can take.

    ended: [rows]; such a row goes on, and is no longer recorded.
    """

    def __init__(
        self,
        rows: int,
        decoding: Decoding,
        noise: NDArray[np.float64] | None,
        eos_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        self.decoding = decoding
        self.noise = None if noise is None else torch.from_numpy(noise).to(device)
        self.eos = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
        self.ids = torch.zeros(rows, decoding.max_tokens, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(rows, decoding.max_tokens, device=device)
        self.lengths = torch.full((rows,), decoding.max_tokens, device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        interrupts.check()
        if self.step >= self.decoding.max_tokens:  # the stop may be noticed a pass late
            return scores
        logits = scores.float()
        tokens = choose(logits, self.decoding, None if self.noise is None else self.noise[:, self.step])
        self.ids[:, self.step] = tokens
        self.logprobs[:, self.step] = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        self.step += 1
        stopped = torch.isin(tokens, self.eos) & ~self.ended
        self.lengths[stopped] = self.step
        self.ended |= stopped
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens[:, None], 0.0)

    def responses(self) -> list[Sampled]:
        rows = zip(self.ids.tolist(), self.logprobs.tolist(), self.lengths.tolist(), self.ended.tolist(), strict=True)
        return [Sampled(ids[:n], logs[:n], "stop" if ended else "length") for ids, logs, n, ended in rows]


class _AllEnded(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, draw: _Draw) -> None:
        self.draw = draw

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return self.draw.ended
