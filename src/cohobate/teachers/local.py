"""A teacher in this process, through transformers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import transformers

from cohobate.core.model_shape import context_of
from cohobate.models.loading import LoadedModel
from cohobate.models.rendering import Rendering, rendered_ids
from cohobate.models.sampling import sampler
from cohobate.models.special_tokens import decode
from cohobate.models.thoughts import completed, opening_of
from cohobate.teachers.base import Batch, Failure, Request, Response

_FULL = "the prompt fills the context of the model, so that no response fits"


class LocalTeacher:
    """Generates in batches whose members depend on the requests alone.

    Requests are ordered by prompt length and key and cut into batches of `batch_size`. When a run is killed after
    some batches, the rest of the requests fall into the same batches again, so that the results are the same to the
    last bit.
    """

    engine_version = transformers.__version__

    def __init__(self, model: LoadedModel, batch_size: int, rendering: Rendering) -> None:
        self.model, self.batch_size, self.rendering = model, batch_size, rendering

    def answer(self, requests: Iterable[Request]) -> Iterator[Batch]:
        requests = list(requests)  # each is built when it is accessed
        prompts = {request.key: self._prompt(request) for request in requests}
        full = [request for request in requests if not self._has_room(prompts[request.key])]
        if full:
            yield [Failure(request, "ContextFull", None, _FULL, attempts=1) for request in full]
        fitting = [request for request in requests if self._has_room(prompts[request.key])]
        order = sorted(fitting, key=lambda r: (_decoding_key(r), len(prompts[r.key]), r.key))
        for decoding_key, group in groupby(order, _decoding_key):
            alike = list(group)
            for start in range(0, len(alike), self.batch_size):
                batch = alike[start : start + self.batch_size]
                yield self._batch(batch, [prompts[r.key] for r in batch], decoding_key)

    def stop(self) -> list[Response]:
        """Nothing is under way between two batches."""
        return []

    def _has_room(self, prompt: list[int]) -> bool:
        context = context_of(self.model.config)
        return context is None or len(prompt) < context

    def _prompt(self, request: Request) -> list[int]:
        return rendered_ids(self.model.tokenizer, request.messages, self.rendering)

    def _text(self, prompt: list[int], response_ids: Sequence[int]) -> str:
        tokenizer = self.model.tokenizer
        return completed(decode(tokenizer, response_ids), opening_of(tokenizer, prompt))

    def _batch(
        self,
        requests: list[Request],
        prompts: list[list[int]],
        decoding_key: tuple[int, float, float, int, int],
    ) -> list[Response]:
        max_tokens, temperature, top_p, top_k, seed = decoding_key
        noise = sampler.uniforms(seed, [r.key for r in requests], max_tokens) if temperature else None
        started = time.perf_counter()
        sampled = sampler.sample(
            self.model.model,
            prompts,
            sampler.Decoding(max_tokens, temperature, top_p, top_k),
            noise,
            eos_ids=self.model.eos_ids,
            pad_id=self.model.pad_id,
            batch_size=len(prompts),
        )
        milliseconds = (time.perf_counter() - started) * 1000
        return [
            Response(
                key=request.key,
                text=self._text(prompt, row.response_ids),
                reasoning=None,
                finish_reason=row.finish_reason,
                prompt_tokens=len(prompt),
                completion_tokens=len(row.response_ids),
                latency_ms=milliseconds,
            )
            for request, prompt, row in zip(requests, prompts, sampled, strict=True)
        ]


def _decoding_key(request: Request) -> tuple[int, float, float, int, int]:
    return (request.max_tokens, request.temperature, request.top_p, request.top_k, request.seed)
