"""Sampling over a cache of slots: rows are batched continuously, and a prompt that several rows have is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from cohobate.core import interrupts
from cohobate.core.errors import ModelError
from cohobate.core.model_shape import ModelShape, text_config
from cohobate.models.decoder.decoder import Decoder
from cohobate.models.sampling.context_limit import room_behind
from cohobate.models.sampling.decoding import Decoding, Sampled, choose
from cohobate.models.sampling.forward import forward_of
from cohobate.models.sampling.kv_cache import Decode, Prefill, SlotCache, blocks
from cohobate.models.sampling.pace import FEWEST_ROWS, Graphs, Pace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The kinds of layers that it has masks for.
KINDS = frozenset({"full_attention", "sliding_attention"})
# Prompt tokens that are read in one forward pass.
_PREFILL_TOKENS = 4096


@torch.inference_mode()
def longest_step(model: Any, rows: int, prompt: int, decoding: Decoding) -> None:
    """The passes of a sampler that take the most memory: `rows` prompts are read, and their last tokens drawn.

    Nothing is decided by the values of a tensor, so that it can run on tensors without elements.
    Raises ModelError for a model that a cache of slots does not hold.
    """
    slots, device = max(rows, FEWEST_ROWS), model.device
    limit = blocks(_padded(prompt) + decoding.max_tokens)
    cache = SlotCache(ModelShape.of(model.config).layers, slots, limit)
    forward, masks = forward_of(model, cache, limit), _Masks(model, limit)
    cache.reserve(limit, slots)
    at_once = min(rows, max(1, _PREFILL_TOKENS // _padded(prompt)))
    cache.plan = Prefill(0, torch.arange(at_once, device=device))
    forward.prefill(torch.zeros(at_once, _padded(prompt), dtype=torch.long, device=device))
    position = torch.full((slots,), limit - 1, device=device)
    cache.plan = Decode(position, limit)
    logits = forward.decode(torch.zeros_like(position), position, masks(position, limit)).float()
    tokens = choose(logits, decoding, None if decoding.temperature == 0 else torch.zeros(slots, device=device))
    logits.log_softmax(-1).gather(-1, tokens[:, None])


class SlotSampler:
    """Samples a response to each of `prompts`; see `sampler.sample`.

    Live rows are in slots 0 to live - 1; the state of slot i is at place i of each tensor.

    row: the index of its prompt; step: tokens drawn so far; position: columns filled in the cache; token: drawn (or the
    prompt's last) but not yet read by the model; over: whether its response has ended, so that nothing that it draws
    is kept. A slot without a row is over, and works for a row behind the last.

    pace: how steps are taken; that of the model's device where it is None.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        noise: NDArray[np.float64] | None,
        eos_ids: Sequence[int],
        pad_id: int,
        batch_size: int,
        pace: Pace | None = None,
    ) -> None:
        self.model, self.decoding, self.prompts = model, decoding, prompts
        self.batch_size, self.pad_id, self.live = batch_size, pad_id, 0
        self.pace = pace or Pace.of(model.device, plain=Decoder.supports(model))
        # Equal prompts side by side, short ones first.
        self.waiting = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i]), i), reverse=True)
        count, slots, device = len(prompts), self.pace.rows(batch_size), model.device
        self.nobody, self.nowhere = count, decoding.max_tokens
        self.eos = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
        self.row = torch.full((slots,), self.nobody, device=device)
        self.step, self.position = torch.zeros(2, slots, dtype=torch.long, device=device)
        self.token = torch.full((slots,), pad_id, device=device)
        self.over = torch.ones(slots, dtype=torch.bool, device=device)
        self.slot = torch.arange(slots, device=device)
        shape = (count + 1, decoding.max_tokens + 1)
        self.noise = None
        if noise is not None:
            self.noise = torch.zeros(shape, dtype=torch.float64)
            self.noise[:count, : decoding.max_tokens] = torch.from_numpy(noise[:, : decoding.max_tokens])
            self.noise = self.noise.to(device)
        self.ids = torch.full(shape, pad_id, device=device)
        self.logprobs = torch.zeros(shape, device=device)
        self.lengths = torch.zeros(count, dtype=torch.long, device=device)
        self.stopped = torch.zeros(count, dtype=torch.bool, device=device)
        self.limits = torch.tensor([*room_behind(model, prompts, decoding.max_tokens), 1], device=device)
        longest = _padded(max(map(len, prompts)))
        layers = ModelShape.of(model.config).layers
        limit = blocks(longest + decoding.max_tokens)
        self.cache = SlotCache(layers, slots, limit)
        self.masks = _Masks(model, limit)
        self.forward = forward_of(model, self.cache, limit)
        self.graphs = Graphs() if self.pace.graphs else None
        self.longest = 0  # no position of a live row is larger

    def run(self, done: Callable[[int], None]) -> list[Sampled]:
        while self.waiting or self.live:
            free = self.batch_size - self.live
            # Reading prompts a few at a time would cost a pass for each.
            if self.waiting and (self.live == 0 or free * 8 >= self.batch_size):
                self.admit(free)
            interrupts.check()
            ended = self.advance()
            if ended:
                done(ended)
        return self._results()

    def admit(self, count: int) -> None:
        """Read the prompts of the next `count` rows into free slots, all but each one's last token."""
        entering = [self.waiting.pop() for _ in range(min(count, len(self.waiting)))]
        slots = self.slot[self.live : self.live + len(entering)]
        prompts = [self.prompts[i] for i in entering]
        self.row[slots] = torch.tensor(entering, device=slots.device)
        self.step[slots] = 0
        self.over[slots] = False
        self.position[slots] = torch.tensor([len(p) - 1 for p in prompts], device=slots.device)
        self.token[slots] = torch.tensor([p[-1] for p in prompts], device=slots.device)
        # A recorded step reads the memory that it was recorded with.
        columns = self.cache.limit if self.pace.graphs else blocks(_padded(len(prompts[-1])))
        self.cache.reserve(columns, len(self.slot))
        for inputs, first, source in _prefills(prompts, self.pad_id):
            self.cache.plan = Prefill(self.live + first, torch.tensor(source, device=slots.device))
            self.forward.prefill(torch.tensor(inputs, device=slots.device))
        self.live += len(entering)
        self.longest = int(self.position[: self.live].max())

    def advance(self) -> int:
        """Draw tokens for the live rows; remove those that have ended, and return their number."""
        rows, before = self.pace.rows(self.live), self.live
        for _ in range(self.pace.steps):
            window = min(self.cache.limit, self.pace.window(self.longest + 1))
            self.cache.reserve(window, len(self.slot) if self.waiting else rows)
            if self.graphs is None:
                self.draw(rows, window)
            else:
                self.graphs.run((rows, window), partial(self.draw, rows, window))
            self.longest += 1
        over = self.over[: self.live]
        if over.any():  # of all that is done in a step, this alone waits for the device
            self._leave(over)
        return before - self.live

    def draw(self, rows: int, window: int) -> None:
        """Draw a token for each of the first `rows` slots; nothing is decided by the values of a tensor."""
        row, step, position, over = (state[:rows] for state in (self.row, self.step, self.position, self.over))
        self.cache.plan = Decode(position, window)
        logits = self.forward.decode(self.token[:rows], position, self.masks(position, window)).float()
        column = step.masked_fill(over, self.nowhere)
        tokens = choose(logits, self.decoding, None if self.noise is None else self.noise[row, column])
        self.ids[row, column] = tokens
        self.logprobs[row, column] = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        self.token[:rows] = tokens
        step += ~over
        over |= torch.isin(tokens, self.eos) | (step >= self.limits[row])
        # A row that is over stays in its last column, of which there may be no next.
        position += ~over

    def _leave(self, over: torch.Tensor) -> None:
        """Keep the lengths of the rows that are over, and free their slots; the last live rows move into them."""
        row, length = self.row[: self.live][over], self.step[: self.live][over]
        self.lengths[row] = length
        self.stopped[row] = torch.isin(self.ids[row, length - 1], self.eos)
        staying = (~over).nonzero()[:, 0]
        left = len(staying)
        holes = over[:left].nonzero()[:, 0]
        if len(holes):
            movers = staying[-len(holes) :]
            self.cache.move(holes, movers, min(self.cache.capacity, blocks(self.longest)))
            for state in (self.row, self.step, self.position, self.token, self.over):
                state[holes] = state[movers]
        # Slots without a row read one column.
        self.position[left : self.live], self.row[left : self.live] = 0, self.nobody
        self.over[left : self.live] = True
        self.live = left
        self.longest = int(self.position[:left].max()) if left else 0

    def _results(self) -> list[Sampled]:
        ids, logprobs = self.ids.tolist(), self.logprobs.tolist()
        return [
            Sampled(ids[i][:n], logprobs[i][:n], "stop" if stopped else "length")
            for i, (n, stopped) in enumerate(zip(self.lengths.tolist(), self.stopped.tolist(), strict=True))
        ]


class _Masks:
    """Additive attention masks of a decoding step, one for each kind of attention layer of the model."""

    def __init__(self, model: Any, limit: int) -> None:
        config = text_config(model.config)
        self.reach: int = getattr(config, "sliding_window", None) or 0
        kinds = getattr(config, "layer_types", None) or ["sliding_attention" if self.reach else "full_attention"]
        self.kinds = sorted(set(kinds))
        if unknown := set(self.kinds) - KINDS:
            raise ModelError(f"the cache of slots has no masks for {', '.join(sorted(unknown))} layers")
        self.columns = torch.arange(limit, device=model.device)
        self.seen, self.shut = torch.tensor([0.0, -torch.inf], dtype=model.dtype, device=model.device)

    def __call__(self, position: torch.Tensor, window: int) -> Any:
        """Masks [rows, 1, 1, window] that leave columns 0 to `position` of each row; by kind if there are two."""
        columns, last = self.columns[:window], position[:, None]
        masks = {}
        for kind in self.kinds:
            mask = torch.where(columns <= last, self.seen, self.shut)
            if kind == "sliding_attention":
                mask = torch.where(columns > last - self.reach, mask, self.shut)
            masks[kind] = mask[:, None, None]
        return masks if len(masks) > 1 else masks[self.kinds[0]]


def _padded(length: int) -> int:
    """The padded length of a prompt, by its own length alone: at most an eighth more, and at least 4 tokens."""
    unit = max(4, 1 << max(0, length.bit_length() - 4))
    return -(-length // unit) * unit


def _prefills(prompts: list[Sequence[int]], pad_id: int) -> Iterator[tuple[list[list[int]], int, list[int]]]:
    """The prefill passes over `prompts` (sorted by length, equal ones together), without the last token of each.

    Yields (inputs, first, source): `inputs` are distinct prompts padded to one width, and the rows from `first` on have
    the prompts inputs[source[0]], inputs[source[1]], ...
    """
    for width, group in groupby(range(len(prompts)), key=lambda i: _padded(len(prompts[i]) - 1)):
        if not width:
            continue
        inputs: list[list[int]] = []
        source: list[int] = []
        first = last = -1
        for i in group:
            padded = [*prompts[i][:-1], *[pad_id] * (width - len(prompts[i]) + 1)]
            if not inputs or padded != inputs[-1]:
                if len(inputs) >= max(1, _PREFILL_TOKENS // width):
                    yield inputs, first, source
                    inputs, source = [], []
                inputs.append(padded)
            first = i if not source else first
            source.append(len(inputs) - 1)
            last = i
        assert last - first + 1 == len(source)
        yield inputs, first, source
