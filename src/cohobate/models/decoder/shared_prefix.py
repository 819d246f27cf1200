"""Sequences that begin with the same prompt, which is computed once for all of them.

The tokens of a batch lie in one flat row, first the distinct prompts and then the responses, so that layers that act
on each token alone see no padding. Only attention sees rows, of similar width, which are gathered from the flat row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from cohobate.models.decoder.decoder import Attend, Decoder, attention

# Token ids of a prompt and of the response to it.
Pair = tuple[Sequence[int], Sequence[int]]
# Rows that attend together may be wider than their shortest by this factor: padding against fewer calls.
_WIDER = 1.25


@dataclass(frozen=True)
class _Rows:
    """Rows that attend together: places [B, T] of their queries and [B, S] of their keys in the flat row.

    mask: [B, 1, T, S], added to the logits of attention; None for prompts, whose attention is causal.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class SharedLayout:
    """Where the tokens of a batch lie.

    ids, positions: [N]. read: [M], the places whose hidden states predict the responses, response by response. rows:
    the groups that attend together. outputs: [N], the place of each token's attention output among those of all rows.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    read: torch.Tensor
    rows: list[_Rows]
    outputs: torch.Tensor

    def hidden_states(self, decoder: Decoder) -> torch.Tensor:
        """Last hidden states [M, d] at `read`."""
        return decoder.read(self.ids, decoder.angles(self.positions), self._attend(), self.read)

    def _attend(self) -> Attend:
        query_places = torch.cat([rows.queries.flatten() for rows in self.rows])
        key_places = torch.cat([rows.keys.flatten() for rows in self.rows])
        query_counts = [rows.queries.numel() for rows in self.rows]
        key_counts = [rows.keys.numel() for rows in self.rows]

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            # Gathered for all rows at once: the gradient of a gather is as long as its source.
            parts = zip(
                self.rows,
                queries.index_select(0, query_places).split(query_counts),
                keys.index_select(0, key_places).split(key_counts),
                values.index_select(0, key_places).split(key_counts),
                strict=True,
            )
            outputs = [_attention(rows, q, k, v) for rows, q, k, v in parts]
            return torch.cat(outputs).index_select(0, self.outputs)

        return attend


def _attention(rows: _Rows, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    queries = queries.unflatten(0, rows.queries.shape).transpose(1, 2)
    keys, values = (part.unflatten(0, rows.keys.shape).transpose(1, 2) for part in (keys, values))
    # Some devices refuse a mask of another precision than the queries'.
    mask = None if rows.mask is None else rows.mask.to(queries.dtype)
    return attention(queries, keys, values, mask).transpose(1, 2).flatten(2).flatten(0, 1)


def saved(sequences: Sequence[Pair]) -> float:
    """The share of the tokens of `sequences` that is saved where equal prompts are computed once."""
    unshared = sum(len(prompt) + len(response) - 1 for prompt, response in sequences)
    prompts = {tuple(prompt) for prompt, _ in sequences}
    shared = sum(map(len, prompts)) + sum(len(response) - 1 for _, response in sequences)
    return 1 - shared / max(1, unshared)


def split(sequences: Sequence[Pair], budget: int) -> Iterator[list[int]]:
    """`sequences` in lists of at most `budget` computed tokens, equal prompts together; a longer one is alone."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i][0]), tuple(sequences[i][0]), i))
    chosen: list[int] = []
    tokens, last = 0, None
    for i in order:
        prompt, response = tuple(sequences[i][0]), sequences[i][1]
        cost = len(response) - 1 + (0 if prompt == last else len(prompt))
        if chosen and tokens + cost > budget:
            yield chosen
            chosen, tokens, cost = [], 0, len(response) - 1 + len(prompt)
        chosen.append(i)
        tokens, last = tokens + cost, prompt
    if chosen:
        yield chosen


def lay_out(sequences: Sequence[Pair], device: torch.device | str) -> SharedLayout:
    """The layout of `sequences`; each response has at least one token, and its last token is no input."""
    ids: list[int] = []
    positions: list[int] = []
    prompts: dict[tuple[int, ...], range] = {}

    def add(tokens: Sequence[int], first: int) -> range:
        places = range(len(ids), len(ids) + len(tokens))
        ids.extend(tokens)
        positions.extend(range(first, first + len(tokens)))
        return places

    for prompt, _ in sequences:
        if tuple(prompt) not in prompts:
            prompts[tuple(prompt)] = add(prompt, 0)
    own = [(prompts[tuple(prompt)], add(response[:-1], len(prompt))) for prompt, response in sequences]
    read = [place for prompt, response in own for place in (prompt[-1], *response)]
    rows = [_prompt_rows(part) for part in _alike([(prompt, prompt) for prompt in prompts.values()])]
    rows += [_response_rows(part) for part in _alike([pair for pair in own if pair[1]])]
    outputs = torch.zeros(len(ids), dtype=torch.long)
    start = 0
    for lengths, part in rows:
        real = torch.arange(part.queries.shape[1]) < lengths[:, None]
        outputs[part.queries[real]] = start + real.flatten().nonzero()[:, 0]
        start += part.queries.numel()
    return SharedLayout(
        torch.tensor(ids, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(read, device=device),
        [_to(part, device) for _, part in rows],
        outputs.to(device),
    )


def _alike(pairs: list[tuple[range, range]]) -> Iterator[list[tuple[range, range]]]:
    """(prompt, own tokens) in lists, in each of which the own tokens have similar lengths."""
    chosen: list[tuple[range, range]] = []
    for pair in sorted(pairs, key=lambda pair: (len(pair[1]), pair[1].start)):
        if chosen and len(pair[1]) > max(_WIDER * len(chosen[0][1]), len(chosen[0][1]) + 4):
            yield chosen
            chosen = []
        chosen.append(pair)
    if chosen:
        yield chosen


def _prompt_rows(pairs: list[tuple[range, range]]) -> tuple[torch.Tensor, _Rows]:
    """The number of tokens of each prompt, and the rows; no token sees the padding, which is on the right."""
    places, lengths = _padded([own for _, own in pairs])
    return lengths, _Rows(places, places, None)


def _response_rows(pairs: list[tuple[range, range]]) -> tuple[torch.Tensor, _Rows]:
    """The number of tokens of each response, and the rows, which see their prompt and their own past."""
    before, prompt_lengths = _padded([prompt for prompt, _ in pairs])
    places, lengths = _padded([own for _, own in pairs])
    width = places.shape[1]
    of_prompt = (torch.arange(before.shape[1]) < prompt_lengths[:, None])[:, None].expand(-1, width, -1)
    of_own = torch.ones(width, width, dtype=torch.bool).tril().expand(len(pairs), -1, -1)
    allowed = torch.cat([of_prompt, of_own], -1)[:, None]
    mask = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)
    return lengths, _Rows(places, torch.cat([before, places], -1), mask)


def _padded(ranges: list[range]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places [B, T], padded with the first of each, and their numbers [B]."""
    lengths = torch.tensor([len(each) for each in ranges])
    first = torch.tensor([each.start for each in ranges])
    steps = torch.arange(int(lengths.max()))
    return first[:, None] + torch.where(steps < lengths[:, None], steps, 0), lengths


def _to(rows: _Rows, device: torch.device | str) -> _Rows:
    mask = None if rows.mask is None else rows.mask.to(device)
    return _Rows(rows.queries.to(device), rows.keys.to(device), mask)
